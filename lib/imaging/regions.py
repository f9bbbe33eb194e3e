"""Regions of interest by their shape: spheres and boxes in LPS mm, as masks on a grid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.types import BoolArray

Point = tuple[float, float, float]
EDGE_TOLERANCE_MM = 1e-6  # voxel centres on the surface belong to the region


@dataclass(frozen=True)
class Sphere:
    """A sphere: its centre (x, y, z) and its radius, LPS mm."""

    center_mm: Point
    radius_mm: float

    def __post_init__(self) -> None:
        _refuse_unless_finite(self.center_mm, (self.radius_mm,))

    @property
    def half_size_mm(self) -> Point:
        """Half of the bounding box's edges (x, y, z)."""
        return self.radius_mm, self.radius_mm, self.radius_mm

    def contains(self, points_mm: NDArray[np.float64]) -> BoolArray:
        """Return which of the points, shape (N, 3), are inside."""
        distance = np.linalg.norm(points_mm - np.asarray(self.center_mm), axis=-1)
        return np.asarray(distance <= self.radius_mm + EDGE_TOLERANCE_MM)


@dataclass(frozen=True)
class Box:
    """A box along the patient axes: its centre and its edges (x, y, z), LPS mm."""

    center_mm: Point
    size_mm: Point

    def __post_init__(self) -> None:
        _refuse_unless_finite(self.center_mm, self.size_mm)

    @property
    def half_size_mm(self) -> Point:
        """Half of the edges (x, y, z)."""
        x, y, z = self.size_mm
        return x / 2, y / 2, z / 2

    def contains(self, points_mm: NDArray[np.float64]) -> BoolArray:
        """Return which of the points, shape (N, 3), are inside."""
        offset = np.abs(points_mm - np.asarray(self.center_mm))
        return np.asarray((offset <= np.asarray(self.half_size_mm) + EDGE_TOLERANCE_MM).all(axis=-1))


def region_box(region: Sphere | Box, geometry: Geometry) -> tuple[slice, slice, slice] | None:
    """Return the smallest ranges of slices, rows and columns that hold a region; None if it is outside the grid."""
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3))) * region.half_size_mm + region.center_mm
    voxels = geometry.to_voxel(corners)[:, ::-1]  # (slice, row, column)
    low = np.maximum(np.ceil(voxels.min(axis=0) - EDGE_TOLERANCE_MM), 0).astype(np.int64)
    high = np.minimum(np.floor(voxels.max(axis=0) + EDGE_TOLERANCE_MM), np.array(geometry.shape) - 1).astype(np.int64)
    if (low > high).any():
        return None
    slices, rows, columns = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    return slices, rows, columns


def region_mask(region: Sphere | Box, geometry: Geometry, box: tuple[slice, slice, slice]) -> BoolArray:
    """Return which voxels of a range have their centre in a region, in the range's shape.

    Args:
        region: The region.
        geometry: Of the whole grid.
        box: Slices, rows and columns, see `region_box`.
    """
    slices, rows, columns = (np.arange(axis.start, axis.stop) for axis in box)
    mask = np.empty((len(slices), len(rows), len(columns)), dtype=np.bool_)
    row, column = np.meshgrid(rows, columns, indexing="ij")
    for number, k in enumerate(slices):  # coordinates take 24 bytes per voxel
        voxels = np.stack([column, row, np.full_like(row, k)], axis=-1).reshape(-1, 3).astype(np.float64)
        mask[number] = region.contains(geometry.to_world(voxels)).reshape(row.shape)
    return mask


def _refuse_unless_finite(center_mm: tuple[Any, ...], sizes_mm: tuple[Any, ...]) -> None:
    if len(center_mm) != 3 or not np.isfinite(center_mm).all() or not np.isfinite(sizes_mm).all() or min(sizes_mm) <= 0:
        raise InputError(
            f"a region needs a centre (x, y, z) and a size above 0, in mm, found {center_mm} and {sizes_mm}"
        )
