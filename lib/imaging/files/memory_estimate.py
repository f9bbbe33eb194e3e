"""Memory estimates for reading volumes, computed from headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lib.errors import ImageFileError
from lib.imaging.files.header_check import FLOAT_BYTES, refuse_unless_alone

DECODING_SLICES = 16  # temporary slices of up to four threads that decode: bytes, integers, floats


def volume_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a float32 volume of this shape."""
    return FLOAT_BYTES * math.prod(shape)


def series_read_bytes(shape: Sequence[int]) -> int:
    """Return the peak memory of reading a DICOM series of shape (K, R, C): the volume, and temporary slices."""
    return volume_bytes(shape) + DECODING_SLICES * volume_bytes(shape[1:])


def file_read_bytes(path: Path) -> int:
    """Return the peak memory of reading a NIfTI, NRRD or MHA file: stored voxels, and the float32 volume.

    Raises:
        ImageFileError: See `announced_shape`.
    """
    return refuse_unless_alone(path).needed_bytes


def announced_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape (slices, rows, columns) of a NIfTI, NRRD or MHA file according to its header.

    Raises:
        ImageFileError: Another format, damaged, not three-dimensional, or too large.
    """
    shape = refuse_unless_alone(path).shape
    if len(shape) != 3:
        raise ImageFileError(
            f"{path.name}: colour or vector image, or {len(shape)} dimensions; expected 3, and one value per voxel"
        )
    return shape[0], shape[1], shape[2]
