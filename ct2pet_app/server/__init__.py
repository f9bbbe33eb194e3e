"""The web server around the app: middleware, error responses, logging, temporary files, task processes."""
