"""Synthesis of a PET from a CT."""
