"""The HTTP API: one router per resource, dependencies, request and response models."""
