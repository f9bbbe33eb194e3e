"""Synthetic patients with known truth, as arrays and as DICOM studies."""
