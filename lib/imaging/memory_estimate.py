"""How many bytes a volume takes in memory, computed from headers before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from lib.errors import ImageFileError
from lib.imaging.announced import announced_by, refuse_unless_alone

FLOAT32_BYTES = 4
DECODING_SLICES = 4  # slices as large as one of the volume that exist while one is decoded: bytes, integers, floats


def volume_bytes(shape: Sequence[int]) -> int:
    """Return the bytes of a float32 volume of this shape."""
    return FLOAT32_BYTES * math.prod(shape)


def series_read_bytes(shape: Sequence[int]) -> int:
    """Return the peak of reading a DICOM series of this shape (K, R, C): the volume, and one slice as it is decoded."""
    return volume_bytes(shape) + DECODING_SLICES * volume_bytes(shape[1:])


def file_read_bytes(path: Path) -> int:
    """Return the peak of reading a volume file: the numbers as stored, twice, and the float32 volume.

    Raises:
        ImageFileError: As `announced_shape`.
    """
    refuse_unless_alone(path)
    announced = announced_by(path)
    return announced.voxels * (FLOAT32_BYTES + 2 * announced.voxel_bytes)


def announced_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape (K, R, C) that the header of a NIfTI, NRRD or MHA file announces; reads the header only.

    Raises:
        ImageFileError: Not such a file, damaged, or not three-dimensional.
    """
    refuse_unless_alone(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = list(reader.GetSize())
    except RuntimeError as error:
        raise ImageFileError(f"{path.name}: its header cannot be read; is the file complete?") from error
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) != 3:
        raise ImageFileError(f"{path.name}: {len(size)} dimensions, expected 3")
    columns, rows, slices = size
    return slices, rows, columns
