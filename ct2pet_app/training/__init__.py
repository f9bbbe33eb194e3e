"""Training on the studies of the server, and the promotion of new versions."""
