"""The HTTP API: dependencies and response models that its routers share."""
