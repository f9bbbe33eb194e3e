"""The viewer: a web page of the server, and the data that it needs beyond those of other clients."""
