"""Trainings, batches and scorings in child processes."""
