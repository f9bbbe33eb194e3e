"""The routers of the API, one module for each resource; `install` adds them to the server."""
