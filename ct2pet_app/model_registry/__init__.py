"""The models of the server: versions, the served one, and the cache in memory."""
