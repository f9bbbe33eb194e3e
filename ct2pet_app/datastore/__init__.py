"""Where the server's images and labels live."""
