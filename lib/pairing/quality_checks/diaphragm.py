"""Where the PET's diaphragm lies against the CT's: the step from the lung's low uptake to the liver's or spleen's.

Below the outer half of each lung its lowest voxel lies on the diaphragm. Uptake along z is averaged over all such
columns, each from the CT's own surface: were the two aligned, it would step at 0. A step at d mm means that the PET's
dome is d mm higher. Breathing blurs the step, and moves it to where the dome is on average.
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

ACROSS = 0.95  # cosine of the slices' normal with z; columns of voxels then run along the body
LUNG_HU = (-1000.0, -500.0)
SOFT_HU = -20.0  # what lies below is liver, spleen or stomach, not the fat of the chest wall
LUNG_ABOVE_MM, SOFT_BELOW_MM = 20.0, 10.0  # that much of each in a column, or it is none of the dome
REACH_MM = 50.0  # of the profile, up and down
STEP_MM = 0.5
SHIFTS_MM = np.arange(-30.0, 30.1, STEP_MM)
BLURS_MM = (3.0, 5.0, 8.0, 12.0)  # standard deviations of the step: a PET alone, up to deep breathing
MIN_COLUMNS = 25  # 4 mm wide: 4 cm2 of dome
MIN_EXPLAINED = 0.9  # of the profile's variance, by one step
MIN_CONTRAST = 1.3  # uptake below over uptake above

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Dome:
    """A diaphragm that both scans show.

    Attributes:
        shift_mm: How much higher the PET's is than the CT's, along z.
        lowest_mm, highest_mm: From where to where the CT's dome lies, z of LPS.
    """

    shift_mm: float
    lowest_mm: float
    highest_mm: float


def find_dome(ct: Volume, body: BoolArray, pet: Volume, *, in_plane_mm: tuple[float, float]) -> Dome | None:
    """Return where the diaphragm of the CT lies and how far the PET's is off; None where that cannot be told.

    Args:
        ct: HU, on pixels of about 4 mm, slices across the body.
        body: On its grid.
        pet: SUVbw, NaN where not measured.
        in_plane_mm: The body's shift (x, y), which is taken out.
    """
    if abs(ct.geometry.normal[2]) < ACROSS:
        return None
    is_up = ct.geometry.normal[2] > 0
    ct_hu, inside = (ct.array, body) if is_up else (ct.array[::-1], body[::-1])
    columns = _dome(ct_hu, inside, ct.geometry.spacing_mm[0])
    if len(columns) < MIN_COLUMNS:
        return None
    k = columns[:, 0] if is_up else ct.geometry.shape[0] - 1 - columns[:, 0]
    surface = ct.geometry.to_world(np.column_stack([columns[:, 2], columns[:, 1], k]))
    surface[:, 2] -= ct.geometry.spacing_mm[0] / 2  # the lowest lung voxel's lower edge
    shift_mm = _step_mm(*_profile(pet, surface + np.array([*in_plane_mm, 0.0])))
    if shift_mm is None:
        return None
    return Dome(shift_mm, float(round(surface[:, 2].min(), 1)), float(round(surface[:, 2].max(), 1)))


def _dome(ct_hu: FloatArray, body: BoolArray, slice_mm: float) -> Vector:
    """Return (k, r, c) of the lowest lung voxel of each column that stands on the diaphragm; k counts upwards."""
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
    """Return which columns lie in the outer half of their lung: the heart lies on the inner one."""
    columns = np.nonzero(lung.any(axis=(0, 1)))[0]
    if not len(columns):
        return np.zeros(len(r), np.bool_)
    middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    return np.asarray(np.abs(c - middle) > half / 2)


def _profile(pet: Volume, surface_mm: Vector) -> tuple[Vector, Vector]:
    """Return (height above the CT's diaphragm in mm, mean uptake there), heights that no column measured left out."""
    heights = np.arange(-REACH_MM, REACH_MM + STEP_MM, 2 * STEP_MM)
    points = surface_mm[None, :, :] + np.stack([np.zeros_like(heights)] * 2 + [heights], axis=1)[:, None, :]
    uptake = sampled(pet, points.reshape(-1, 3)).reshape(points.shape[:2])
    whole = np.isfinite(uptake).mean(axis=1) > 0.9  # else other columns are averaged at each height
    return heights[whole], np.nanmean(uptake[whole], axis=1)


def sampled(volume: Volume, points_mm: Vector) -> Vector:
    """Return a volume's values, interpolated linearly, at points (N, 3), LPS mm; NaN outside."""
    places = volume.geometry.to_voxel(points_mm).T[::-1]  # (slice, row, column)
    return np.asarray(map_coordinates(volume.array, places, output=np.float64, order=1, cval=np.nan))


def _step_mm(heights: Vector, uptake: Vector) -> float | None:
    """Return where the profile steps down from below to above; None where no single step explains it."""
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
            left = float(np.var(uptake - floor - contrast * step))
            if best is None or left < best[0]:
                best = (left, float(shift))
    if best is None or best[0] > (1 - MIN_EXPLAINED) * spread or abs(best[1]) >= SHIFTS_MM[-1]:
        return None
    return best[1]
