"""Resampling within the slice plane.

Slices are independent, so a slab gives the same result as these slices of the full volume. Needs numpy only.
"""

from __future__ import annotations

import numpy as np

from lib.types import FloatArray


def resample_in_plane(slices: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return slices resampled to another number of rows and columns, with the same outer edges.

    Coarser pixels average the pixels they cover (no aliasing); finer pixels interpolate linearly between centres;
    outside the outermost centres the border pixel is repeated.

    Args:
        slices: (K, R, C), float32.
        rows, columns: The new size.

    Returns:
        (K, rows, columns), float32.
    """
    if slices.shape[1:] == (rows, columns):
        return slices
    across_rows = in_plane_weights(slices.shape[1], rows)
    across_columns = in_plane_weights(slices.shape[2], columns)
    return np.asarray(across_rows @ slices @ across_columns.T, dtype=np.float32)


def in_plane_weights(source: int, target: int) -> FloatArray:
    """Return the (target, source) matrix that resamples one axis; each row sums to 1.

    The kernel is a triangle as wide as the larger of the two pixels: linear interpolation when the target is finer,
    a triangle-weighted mean when it is coarser (the antialiased bilinear filter of Pillow and torch).
    """
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.clip(centres, 0, source - 1)[:, None] - np.arange(source)[None, :])
    weights = np.clip(1 - distance / width, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
