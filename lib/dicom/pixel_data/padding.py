"""PixelPaddingValue and PixelPaddingRangeLimit: pixels that fill out a round image and were never measured.

A padding number may also be one that is measured (0 HU is water, 4095 the top of 12 bits, a PET's hottest voxel the
largest number of its slice). Padding fills out the matrix, so such a number is padding only where it reaches a corner.
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

MEASURED_HU = (-1024.0, 30710.0)  # no scanner's scale goes on beyond the extended one: -10240 to 30710, most of it void
NONE = 1 << 40  # no number of two or four bytes


def ct_padding(dataset: Dataset, stored: Stored, ct_hu: FloatArray) -> BoolArray | None:
    """Return which pixels of a CT slice are padding, (R, C); None where none is.

    Raises:
        DicomError: A padding attribute is malformed.
    """
    padded = _padded(dataset, stored)
    if padded is None:
        return None
    doubtful = padded & (ct_hu > MEASURED_HU[0]) & (ct_hu <= MEASURED_HU[1])
    return padded & ~doubtful | _reaching_a_corner(padded) if doubtful.any() else padded


def pet_padding(dataset: Dataset, stored: Stored, pet: FloatArray) -> BoolArray | None:
    """Return which pixels of a PET slice are padding, (R, C); None where none is. Zeros stay what they are.

    Raises:
        DicomError: A padding attribute is malformed.
    """
    padded = _padded(dataset, stored)
    if padded is None or not (padded & (pet != 0)).any():
        return None
    return np.asarray(_reaching_a_corner(padded) & (pet != 0))


def _padded(dataset: Dataset, stored: Stored) -> BoolArray | None:
    """Return where the padding numbers lie; None where there are none."""
    ends = _padding_numbers(dataset, stored)
    if ends is None:
        return None
    limits = stored.pixel_format.limits
    fit = limits[0] <= ends[0] and ends[1] <= limits[1]
    numbers: NDArray[np.integer[Any]] = stored.values if fit else stored.containers
    padded = np.asarray((numbers >= ends[0]) & (numbers <= ends[1]))
    return padded if padded.any() else None


def _padding_numbers(dataset: Dataset, stored: Stored) -> tuple[int, int] | None:
    """Return the least and the largest padding number, both inclusive, with the sign of the pixels."""
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
            return None  # a limit without a value limits nothing
    return min(ends), max(ends)


def _signed(number: int, stored: Stored) -> int:
    """Return a number of two bytes as the pixels have it: -2000 in signed ones is often written 63536 (US)."""
    return number - (1 << 16) if stored.pixel_format.is_signed and 1 << 15 <= number < 1 << 16 else number


def _reaching_a_corner(padded: BoolArray) -> BoolArray:
    import SimpleITK as sitk  # here, because it takes longer to load than most folders do to scan

    rows, columns = padded.shape
    corners = [(c, r) for r in (0, rows - 1) for c in (0, columns - 1) if padded[r, c]]
    if not corners:
        return np.zeros_like(padded)
    image = sitk.GetImageFromArray(padded.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.ConnectedThreshold(image, corners, 1, 1)).astype(np.bool_)
