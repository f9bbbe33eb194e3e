"""Scoring of the served models, and active learning from the scores."""
