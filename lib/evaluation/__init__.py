"""Evaluation of a model on real PETs, compared with baselines."""
