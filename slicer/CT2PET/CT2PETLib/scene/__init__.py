"""Volumes, displays, layouts and tables in the MRML scene."""
