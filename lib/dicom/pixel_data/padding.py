"""Padding pixels (PixelPaddingValue, PixelPaddingRangeLimit), which fill a round image and were not measured.

A padding value may coincide with a measured value (0 HU is water, 4095 the maximum of 12 bits, the hottest voxel of a
PET the largest value of its slice). Such a value is padding only in regions connected to a corner of the matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lib.dicom.attributes.elements import AttributeReader, integer_in
from lib.dicom.pixel_data.stored_values import PADDING_LIMIT, PADDING_VALUE, Stored
from lib.errors import DicomError
from lib.types import BoolArray, FloatArray

MEASURED_HU = (-1024.0, 30710.0)  # the extended CT scale, -10240 to 30710, is the widest; most of it is unused
NONE = 1 << 40  # not a value of two or four bytes


def ct_padding(dataset: Dataset, stored: Stored, ct_hu: FloatArray) -> BoolArray | None:
    """Return a mask of the padding pixels of a CT slice, (R, C); None if there are none.

    Raises:
        DicomError: A padding attribute is malformed.
    """
    padded = _padded(dataset, stored)
    if padded is None:
        return None
    doubtful = padded & (ct_hu > MEASURED_HU[0]) & (ct_hu <= MEASURED_HU[1])
    return padded & ~doubtful | _reaching_a_corner(padded) if doubtful.any() else padded


def pet_padding(dataset: Dataset, stored: Stored, pet: FloatArray) -> BoolArray | None:
    """Return a mask of the padding pixels of a PET slice, (R, C); None if there are none. Zeros are not padding.

    Raises:
        DicomError: A padding attribute is malformed.
    """
    padded = _padded(dataset, stored)
    if padded is None or not (padded & (pet != 0)).any():
        return None
    return np.asarray(_reaching_a_corner(padded) & (pet != 0))


def _padded(dataset: Dataset, stored: Stored) -> BoolArray | None:
    """Return a mask of the pixels with padding values; None if there are none."""
    ends = _padding_numbers(dataset, stored)
    if ends is None:
        return None
    limits = stored.pixel_format.limits
    fit = limits[0] <= ends[0] and ends[1] <= limits[1]
    numbers: NDArray[np.integer[Any]] = stored.values if fit else stored.containers
    padded = np.asarray((numbers >= ends[0]) & (numbers <= ends[1]))
    return padded if padded.any() else None


def _padding_numbers(dataset: Dataset, stored: Stored) -> tuple[int, int] | None:
    """Return the smallest and the largest padding value, both inclusive, with the sign of the pixels."""
    read = AttributeReader()
    ends = []
    for tag in (PADDING_VALUE, PADDING_LIMIT):
        number = integer_in(dataset, tag, NONE)
        if number == NONE:
            read.integer(dataset, tag)  # absent, empty, or malformed
        else:
            ends.append(_signed(number, stored))
        if read.malformed:
            raise DicomError(read.malformed_message())
        if not ends:
            return None  # PixelPaddingRangeLimit without PixelPaddingValue has no meaning
    return min(ends), max(ends)


def _signed(number: int, stored: Stored) -> int:
    """Return a padding value with the sign of the pixels: -2000 is often written as 63536 (US)."""
    return number - (1 << 16) if stored.pixel_format.is_signed and 1 << 15 <= number < 1 << 16 else number


def _reaching_a_corner(padded: BoolArray) -> BoolArray:
    import SimpleITK as sitk  # imported late: it takes longer to load than most folders to scan

    rows, columns = padded.shape
    corners = [(c, r) for r in (0, rows - 1) for c in (0, columns - 1) if padded[r, c]]
    if not corners:
        return np.zeros_like(padded)
    image = sitk.GetImageFromArray(padded.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedThreshold(image, corners, 1, 1)).astype(np.bool_)
