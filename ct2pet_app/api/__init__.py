"""Addresses of the server that are ours, a file for each matter; `install` puts them in."""
