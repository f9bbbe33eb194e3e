"""Tissues of a phantom with their HU and SUV, and painting of ellipsoids on a grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lib.imaging.geometry import Geometry

LabelArray = NDArray[np.uint8]
Point = tuple[float, float, float]  # (x, y, z), mm, LPS

TUBE_MM = 1e4  # a semi-axis longer than any scan turns the ellipsoid into a tube
LPS_AXES: tuple[Point, Point, Point] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Tissue(IntEnum):
    """Labels of a painted phantom."""

    AIR = 0
    TABLE = 1
    FAT = 2
    GLAND = 3
    MUSCLE = 4
    RIB = 5
    MEDIASTINUM = 6
    LUNG = 7
    AIRWAY = 8
    BLOOD = 9
    MYOCARDIUM = 10
    OESOPHAGUS = 11
    LIVER = 12
    SPLEEN = 13
    CORTEX = 14
    MARROW = 15
    DISC = 16
    CORD = 17
    NODULE = 18


# Typical (HU, SUVbw) of an adult an hour after injection of FDG; values of patients vary randomly around these. The
# uptake of a nodule is that of its lesion, the uptake of the myocardium is 1 to 8 regardless of HU.
TYPICAL: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (-1000, 0.0),
    Tissue.TABLE: (-250, 0.0),
    Tissue.FAT: (-100, 0.3),
    Tissue.GLAND: (20, 0.6),
    Tissue.MUSCLE: (50, 0.7),
    Tissue.RIB: (380, 0.9),
    Tissue.MEDIASTINUM: (-60, 0.6),
    Tissue.LUNG: (-800, 0.5),
    Tissue.AIRWAY: (-990, 0.1),
    Tissue.BLOOD: (42, 1.6),
    Tissue.MYOCARDIUM: (48, 3.0),
    Tissue.OESOPHAGUS: (38, 1.5),
    Tissue.LIVER: (60, 2.3),
    Tissue.SPLEEN: (52, 1.9),
    Tissue.CORTEX: (650, 0.6),
    Tissue.MARROW: (190, 1.2),
    Tissue.DISC: (85, 0.6),
    Tissue.CORD: (30, 1.3),
    Tissue.NODULE: (35, 6.0),
}


@dataclass(frozen=True)
class Bands:
    """Restriction of an ellipsoid to slanted layers, such as ribs, or vertebrae between discs."""

    period_mm: float
    filled_mm: float
    slope: float = 0.0  # rise of a layer towards the head per mm towards the back


@dataclass(frozen=True)
class Ellipsoid:
    """A solid of one tissue.

    Attributes:
        semi_axes_mm: Semi-axes along the three unit vectors of `axes`.
        axes: Orthonormal directions, one per row; by default those of LPS.
        power: 2 for an ellipsoid; larger values give a box-like shape (|x/a|^p + |y/b|^p + |z/c|^p <= 1).
        within: Tissues that may be painted over; None for all.
        bands: Layers to keep; None for all.
    """

    tissue: Tissue
    centre_mm: Point
    semi_axes_mm: Point
    axes: tuple[Point, Point, Point] = LPS_AXES
    power: float = 2.0
    within: frozenset[Tissue] | None = None
    bands: Bands | None = None


def paint(shapes: Iterable[Ellipsoid], geometry: Geometry, *, origin_mm: Point) -> LabelArray:
    """Return each voxel's tissue, shape (K, R, C); later shapes cover earlier ones.

    Args:
        geometry: An axial grid, with axes along those of LPS.
        origin_mm: Position of the shapes' origin in the patient coordinates of `geometry`.
    """
    labels = np.zeros(geometry.shape, dtype=np.uint8)
    x, y, z = grid_axes_mm(geometry, origin_mm=origin_mm)
    for shape in shapes:
        box = _bounding_box(shape, x, y, z)
        region = labels[box]
        if region.size == 0:
            continue
        inside = _inside(shape, x[box[2]], y[box[1]], z[box[0]])
        if shape.within is not None:
            inside &= np.isin(region, list(shape.within))
        region[inside] = shape.tissue
    return labels


def grid_axes_mm(geometry: Geometry, *, origin_mm: Point) -> tuple[NDArray[np.float64], ...]:
    """Return the coordinates (x of columns, y of rows, z of slices) of an axial grid, mm from `origin_mm`."""
    slices, rows, columns = geometry.shape
    spacing = np.diag(geometry.affine)[:3]
    first = geometry.affine[:3, 3] - np.asarray(origin_mm)
    return tuple(first[i] + spacing[i] * np.arange(n) for i, n in enumerate((columns, rows, slices)))


def _bounding_box(
    shape: Ellipsoid, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[slice, slice, slice]:
    # |axes|^T s bounds the shape for every power.
    extent = np.abs(np.asarray(shape.axes)).T @ np.asarray(shape.semi_axes_mm)
    box = []
    for i, coordinates in ((2, z), (1, y), (0, x)):
        low = int(np.searchsorted(coordinates, shape.centre_mm[i] - extent[i], side="left"))
        high = int(np.searchsorted(coordinates, shape.centre_mm[i] + extent[i], side="right"))
        box.append(slice(low, high))
    return box[0], box[1], box[2]


def _inside(
    shape: Ellipsoid, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]
) -> NDArray[np.bool_]:
    offsets = (
        (x - shape.centre_mm[0])[None, None, :],
        (y - shape.centre_mm[1])[None, :, None],
        (z - shape.centre_mm[2])[:, None, None],
    )
    total: NDArray[np.float64] = np.zeros((1, 1, 1))
    for direction, semi_axis_mm in zip(shape.axes, shape.semi_axes_mm, strict=True):
        # without terms of weight 0, a solid along LPS costs three vectors and one sum over the grid
        along = sum(w * d for w, d in zip(direction, offsets, strict=True) if w != 0)
        total = total + np.abs(along / semi_axis_mm) ** shape.power
    inside = np.broadcast_to(total <= 1, (z.size, y.size, x.size)).copy()
    if shape.bands is not None:
        phase = np.mod(z[:, None] - shape.bands.slope * y[None, :], shape.bands.period_mm)
        inside &= (phase < shape.bands.filled_mm)[:, :, None]
    return inside
