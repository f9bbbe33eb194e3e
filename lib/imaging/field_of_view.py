"""The field of view of a PET scanner: it is round, while the matrix is square."""

from __future__ import annotations

import numpy as np

from lib.imaging.volume import Volume
from lib.types import BoolArray

EVIDENCE_SLICES = 10  # with fewer slices, a pixel in air may be 0 in all of them by chance
CIRCLE = 0.95  # corners begin at this fraction of the half width; a Discovery ST stores 0 beyond 1.04 of it


def measured_pixels(pet: Volume) -> BoolArray:
    """Return which pixels of a PET the scanner measured, shape (R, C): False for corners that are 0 in every slice.

    A zero outside the field of view means "not measured", not "no uptake". DICOM does not mark such pixels, so they are
    detected by value: with noise and reconstruction, no measured pixel is exactly 0 in all slices of a series (none is
    in 36 cropped real series; all corners are in an uncropped one).
    """
    slices, rows, columns = pet.geometry.shape
    if slices < EVIDENCE_SLICES:
        return np.ones((rows, columns), np.bool_)
    r, c = np.ogrid[:rows, :columns]
    half = min(rows, columns) / 2
    corner = np.hypot(r - (rows - 1) / 2, c - (columns - 1) / 2) > CIRCLE * half
    return np.asarray(~(corner & ~pet.array.any(axis=0)), np.bool_)


def mask_unmeasured(pet: Volume) -> Volume:
    """Return the PET with NaN outside the field of view; resampling keeps NaN."""
    measured = measured_pixels(pet)
    if measured.all():
        return pet
    return Volume(np.where(measured, pet.array, np.float32(np.nan)), pet.geometry, pet.unit)
