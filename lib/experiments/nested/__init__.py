"""Nested cross-validation by patient: inner folds choose, outer folds report."""
