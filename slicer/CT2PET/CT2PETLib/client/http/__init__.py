"""HTTP: connections, retries, cancelled requests, request bodies."""
