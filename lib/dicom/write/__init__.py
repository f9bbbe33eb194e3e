"""Synthetic PET volumes to DICOM series."""
