"""Synthetic patients with known ground truth, as arrays and as DICOM studies."""
