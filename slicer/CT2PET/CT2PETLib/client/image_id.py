"""Identification of a CT by its voxels and geometry alone, so that it is never uploaded twice."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

AFFINE_DECIMALS = 6  # of a millimetre: rounding errors of a file format must not change the id


def image_id_of(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> str:
    """Return the id of a volume, a hash of its voxels, type, shape and geometry; it contains no patient data.

    Args:
        array: (slices, rows, columns).
        affine: 4 x 4, from voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
    """
    digest = hashlib.sha256(f"{array.dtype.kind}{array.dtype.itemsize} {array.shape}\n".encode())
    rounded = np.round(np.asarray(affine, dtype="<f8"), AFFINE_DECIMALS) + 0.0  # turns -0.0 into 0.0
    digest.update(rounded.tobytes())
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return f"ct-{digest.hexdigest()[:32]}"
