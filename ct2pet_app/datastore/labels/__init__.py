"""Uploads and labels that clients add to the studies."""
