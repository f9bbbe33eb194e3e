"""The HTTP API: routers, dependencies, request and response models."""
