"""How much memory reading a volume takes, from headers alone."""

from __future__ import annotations

import math
from pathlib import Path

from lib.errors import ImageFileError
from lib.imaging.announced import FLOAT_BYTES, refuse_unless_alone


def volume_bytes(shape: tuple[int, int, int]) -> int:
    """Return the bytes of one volume of this shape (slices, rows, columns) as it is held in memory: float32."""
    return math.prod(shape) * FLOAT_BYTES


def announced_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape (slices, rows, columns) that the header of a NIfTI, NRRD or MHA file announces.

    Raises:
        ImageFileError: Not such a file, damaged, not three-dimensional, or larger than any volume that is read.
    """
    shape = refuse_unless_alone(path).shape
    if len(shape) != 3:
        raise ImageFileError(f"{path.name}: {len(shape)} dimensions, expected 3")
    return shape[0], shape[1], shape[2]


def volume_file_bytes(path: Path) -> int:
    """Return the bytes that reading a NIfTI, NRRD or MHA file takes in this process and its reader together.

    Raises:
        ImageFileError: As `announced_shape`.
    """
    return refuse_unless_alone(path).needed_bytes
