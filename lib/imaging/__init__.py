"""Volumes with geometry and unit: orientation, resampling, normalisation, registration, masks."""
