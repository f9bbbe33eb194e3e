"""Metrics of a synthetic PET against the real one, and the baselines that it is compared with."""
