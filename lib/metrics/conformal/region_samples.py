"""Regions sampled inside a body, on which the intervals of a region's mean and maximum are calibrated."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lib.imaging.geometry import Geometry
from lib.imaging.regions import Box, Point, Sphere, region_box, region_mask
from lib.types import BoolArray

VOLUME_EDGES_ML = (0.5, 2.0, 8.0, 30.0, 150.0)  # size classes; each has its own calibration
MAX_STRETCH = 1.5  # of a box's edge against a cube of the same volume, before they are scaled to the volume
ATTEMPTS = 160

RegionBox = tuple[slice, slice, slice]


def sample_regions(
    body: BoolArray, spacing_mm: tuple[float, float, float], rng: np.random.Generator, *, attempts: int = ATTEMPTS
) -> Iterator[tuple[RegionBox, BoolArray, float]]:
    """Yield spheres and boxes around random voxels of a body: range, mask in it, and volume in mL.

    Voxels outside the body do not count. Volumes are spread evenly on a logarithmic scale over `VOLUME_EDGES_ML`;
    regions that the body's surface cuts to a smaller one are left out.

    Args:
        body: Body voxels that were measured, (K, R, C).
        spacing_mm: Between (slices, rows, columns).
        rng: Decides centres, sizes and shapes.
        attempts: Number of regions before small ones are left out.
    """
    centres = np.flatnonzero(body)
    if not centres.size:
        return
    slices, rows, columns = body.shape
    geometry = Geometry((slices, rows, columns), np.diag([*spacing_mm[::-1], 1.0]))
    voxel_ml = math.prod(spacing_mm) / 1000
    low, high = math.log(VOLUME_EDGES_ML[0]), math.log(VOLUME_EDGES_ML[-1])
    for _ in range(attempts):
        k, r, c = (float(i) for i in np.unravel_index(centres[rng.integers(len(centres))], body.shape))
        center_mm = c * spacing_mm[2], r * spacing_mm[1], k * spacing_mm[0]
        region = _region(center_mm, math.exp(rng.uniform(low, high)), rng)
        box = region_box(region, geometry)
        if box is None:
            continue
        mask = region_mask(region, geometry, box) & body[box]
        volume_ml = float(mask.sum()) * voxel_ml
        if VOLUME_EDGES_ML[0] <= volume_ml < VOLUME_EDGES_ML[-1]:
            yield box, mask, volume_ml


def size_class(volume_ml: float) -> int | None:
    """Return the position of a volume's size class; None where it is outside the calibrated sizes."""
    if not VOLUME_EDGES_ML[0] <= volume_ml <= VOLUME_EDGES_ML[-1]:
        return None
    return min(int(np.searchsorted(VOLUME_EDGES_ML, volume_ml, side="right")), len(VOLUME_EDGES_ML) - 1) - 1


def _region(center_mm: Point, volume_ml: float, rng: np.random.Generator) -> Sphere | Box:
    if rng.random() < 0.5:
        return Sphere(center_mm, 10 * (3 * volume_ml / (4 * math.pi)) ** (1 / 3))
    stretch = MAX_STRETCH ** rng.uniform(-1, 1, 3)
    edges = 10 * (volume_ml / float(np.prod(stretch))) ** (1 / 3) * stretch
    return Box(center_mm, (float(edges[0]), float(edges[1]), float(edges[2])))
