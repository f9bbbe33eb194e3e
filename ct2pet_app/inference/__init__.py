"""Inference: one CT in, one synthetic PET out."""
