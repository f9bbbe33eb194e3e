"""Batch inference over many CTs."""
