"""Conformal prediction: intervals calibrated by patient."""
