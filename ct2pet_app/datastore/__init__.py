"""The server's images and labels."""
