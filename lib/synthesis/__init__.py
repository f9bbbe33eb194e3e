"""A CT in, a synthetic PET out."""
