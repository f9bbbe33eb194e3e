"""Checks whether a CT and a PET show the same patient in the same position."""
