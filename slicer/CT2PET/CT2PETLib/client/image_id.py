"""A name for a CT that is made of nothing but its voxels and its place: the same CT is never sent twice."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

AFFINE_DECIMALS = 6  # decimals of a millimetre: a volume that went through a file is the same volume


def image_id_of(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> str:
    """Return the id of a volume: equal for equal voxels, type, shape and geometry; nothing about the patient is in it.

    Args:
        array: (slices, rows, columns).
        affine: 4 x 4, takes the voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
    """
    digest = hashlib.sha256(f"{array.dtype.kind}{array.dtype.itemsize} {array.shape}\n".encode())
    place = np.round(np.asarray(affine, dtype="<f8"), AFFINE_DECIMALS) + 0.0  # no -0.0 beside 0.0
    digest.update(place.tobytes())
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return f"ct-{digest.hexdigest()[:32]}"
