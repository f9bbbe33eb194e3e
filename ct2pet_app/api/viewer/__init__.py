"""Endpoints of the viewer: its page and files, and images as a page shows them."""
