"""Offset of the PET's diaphragm from the CT's: the step from the low uptake of the lung to that of liver or spleen.

In the outer half of each lung, the lowest voxel of a column is on the diaphragm. Uptake along z is averaged over all
such columns, relative to the CT's surface. If the two are aligned, the step is at 0; a step at d mm means that the
PET's dome is d mm higher. Breathing blurs the step, and moves it to the mean position of the dome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import ndtr

from lib.imaging.volume import Volume
from lib.types import BoolArray, FloatArray

MIN_NORMAL_Z = 0.95  # cosine between the slices' normal and z; columns of voxels are then along the body
LUNG_HU = (-1000.0, -500.0)
SOFT_HU = -20.0  # mean below the dome: liver, spleen or stomach, not the fat of the chest wall
LUNG_ABOVE_MM, SOFT_BELOW_MM = 20.0, 10.0  # minimum extent of each in a column of the dome
REACH_MM = 50.0  # of the profile above and below
STEP_MM = 0.5
SHIFTS_MM = np.arange(-30.0, 30.1, STEP_MM)
BLURS_MM = (3.0, 5.0, 8.0, 12.0)  # standard deviations of the step: from the PET's resolution to deep breathing
MIN_COLUMNS = 25  # of 4 mm: 4 cm2 of dome
MIN_EXPLAINED = 0.9  # fraction of the profile's variance explained by one step
MIN_CONTRAST = 1.3  # uptake below divided by uptake above

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Dome:
    """A diaphragm found in both scans.

    Attributes:
        shift_mm: Offset of the PET's dome along z, positive if it is higher than the CT's.
        lowest_mm, highest_mm: Range of the CT's dome, z in LPS.
    """

    shift_mm: float
    lowest_mm: float
    highest_mm: float


def find_dome(ct: Volume, body: BoolArray, pet: Volume, *, in_plane_mm: tuple[float, float]) -> Dome | None:
    """Return the diaphragm of the CT with the offset of the PET's; None if it cannot be measured.

    Args:
        ct: HU, pixels of about 4 mm, axial slices.
        body: Body mask on the CT's grid.
        pet: SUVbw, NaN where not measured.
        in_plane_mm: Shift of the body (x, y), which is compensated.
    """
    if abs(ct.geometry.normal[2]) < MIN_NORMAL_Z:
        return None
    is_up = ct.geometry.normal[2] > 0
    ct_hu, inside = (ct.array, body) if is_up else (ct.array[::-1], body[::-1])
    columns = _dome(ct_hu, inside, ct.geometry.spacing_mm[0])
    if len(columns) < MIN_COLUMNS:
        return None
    k = columns[:, 0] if is_up else ct.geometry.shape[0] - 1 - columns[:, 0]
    surface = ct.geometry.to_world(np.column_stack([columns[:, 2], columns[:, 1], k]))
    surface[:, 2] -= ct.geometry.spacing_mm[0] / 2  # lower edge of the lowest lung voxel
    shift_mm = _step_mm(*_profile(pet, surface + np.array([*in_plane_mm, 0.0])))
    if shift_mm is None:
        return None
    return Dome(shift_mm, float(round(surface[:, 2].min(), 1)), float(round(surface[:, 2].max(), 1)))


def _dome(ct_hu: FloatArray, body: BoolArray, slice_mm: float) -> Vector:
    """Return (k, r, c) of the lowest lung voxel in each column above the diaphragm; k counts upwards."""
    low, high = LUNG_HU
    lung = body & (ct_hu > low) & (ct_hu < high)
    above, below = math.ceil(LUNG_ABOVE_MM / slice_mm), math.ceil(SOFT_BELOW_MM / slice_mm)
    lowest = np.argmax(lung, axis=0)
    r, c = np.nonzero(lung.any(axis=0) & (lowest >= below + 1) & (lowest + above <= lung.shape[0]))
    k = lowest[r, c]
    deep = np.stack([lung[k + step, r, c] for step in range(above)]).all(axis=0)
    firm = np.stack([ct_hu[k - step, r, c] for step in range(2, below + 2)]).mean(axis=0) > SOFT_HU
    k, r, c = k[deep & firm], r[deep & firm], c[deep & firm]
    return np.column_stack([k, r, c])[_outer(r, c, lung)].astype(np.float64)


def _outer(r: NDArray[np.int64], c: NDArray[np.int64], lung: BoolArray) -> BoolArray:
    """Return which columns are in the outer half of their lung; the heart is at the inner half."""
    columns = np.nonzero(lung.any(axis=(0, 1)))[0]
    if not len(columns):
        return np.zeros(len(r), np.bool_)
    middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    return np.asarray(np.abs(c - middle) > half / 2)


def _profile(pet: Volume, surface_mm: Vector) -> tuple[Vector, Vector]:
    """Return heights above the CT's diaphragm in mm and the mean uptake there, where most columns were measured."""
    heights = np.arange(-REACH_MM, REACH_MM + STEP_MM, 2 * STEP_MM)
    points = surface_mm[None, :, :] + np.stack([np.zeros_like(heights)] * 2 + [heights], axis=1)[:, None, :]
    uptake = sampled(pet, points.reshape(-1, 3)).reshape(points.shape[:2])
    complete = np.isfinite(uptake).mean(axis=1) > 0.9  # or each height would average other columns
    return heights[complete], np.nanmean(uptake[complete], axis=1)


def sampled(volume: Volume, points_mm: Vector) -> Vector:
    """Return a volume's linearly interpolated values at points in LPS mm, shape (N, 3); NaN outside."""
    indices = volume.geometry.to_voxel(points_mm).T[::-1]  # (slice, row, column)
    return np.asarray(map_coordinates(volume.array, indices, output=np.float64, order=1, cval=np.nan))


def _step_mm(heights: Vector, uptake: Vector) -> float | None:
    """Return the height of the step in the profile; None if no single step explains it."""
    if len(heights) < REACH_MM or heights[0] > -SOFT_BELOW_MM or heights[-1] < LUNG_ABOVE_MM:
        return None
    spread = float(np.var(uptake))
    best: tuple[float, float] | None = None
    for blur in BLURS_MM:
        for shift in SHIFTS_MM:
            step = ndtr((shift - heights) / blur)
            contrast, floor = np.polyfit(step, uptake, 1)
            if floor <= 0 or (floor + contrast) / floor < MIN_CONTRAST:
                continue
            residual = float(np.var(uptake - floor - contrast * step))
            if best is None or residual < best[0]:
                best = (residual, float(shift))
    if best is None or best[0] > (1 - MIN_EXPLAINED) * spread or abs(best[1]) >= SHIFTS_MM[-1]:
        return None
    return best[1]
