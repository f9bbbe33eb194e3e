"""Resampling within the slice plane.

Slices are independent, so a slab gives the same result as these slices of the full volume. Needs numpy only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.types import FloatArray


class _Taps(NamedTuple):
    """The source pixels of every target pixel, (taps, target), and their weights; unused taps have weight 0."""

    sources: NDArray[np.intp]
    weights: FloatArray


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
    down, across = _taps(slices.shape[1], rows), _taps(slices.shape[2], columns)
    resampled = np.empty((len(slices), rows, columns), np.float32)
    for source, target in zip(slices, resampled, strict=True):  # a slice fits in the processor's cache
        if rows < slices.shape[1]:  # the axis that makes it smaller first; only small images are transposed
            rows_done = _weighted_sum(source, down, np.empty((rows, slices.shape[2]), np.float32))
            target[...] = _weighted_sum(rows_done.T, across, np.empty((columns, rows), np.float32)).T
        else:
            columns_done = _weighted_sum(source.T, across, np.empty((columns, slices.shape[1]), np.float32))
            _weighted_sum(columns_done.T, down, target)
    return resampled


def _weighted_sum(image: FloatArray, taps: _Taps, total: FloatArray) -> FloatArray:
    """Return the rows of an image (R, C) combined by taps, in `total` (target, C).

    Not a matrix product: most of its factors would be 0, and the threads of NumPy's OpenBLAS can wait for each other
    for ever where several threads of a server use it at once.
    """
    image = np.ascontiguousarray(image)
    np.multiply(image[taps.sources[0]], taps.weights[0][:, None], out=total)
    for sources, weights in zip(taps.sources[1:], taps.weights[1:], strict=True):
        part = image[sources]
        part *= weights[:, None]
        total += part
    return total


@lru_cache(maxsize=32)
def _taps(source: int, target: int) -> _Taps:
    """Return the weights of `in_plane_weights` without its zeros."""
    weights = in_plane_weights(source, target)
    first = (weights > 0).argmax(axis=1)
    count = int((weights > 0).sum(axis=1).max())
    sources = np.minimum(first[None, :] + np.arange(count)[:, None], source - 1)
    used = first[None, :] + np.arange(count)[:, None] < source
    return _Taps(sources, np.where(used, weights[np.arange(target)[None, :], sources], np.float32(0)))


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
