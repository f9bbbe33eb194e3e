"""ASGI middleware and guards of requests and responses."""
