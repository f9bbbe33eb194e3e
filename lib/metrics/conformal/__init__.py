"""Conformal prediction calibrated by patient: intervals for voxels, regions and lesions."""
