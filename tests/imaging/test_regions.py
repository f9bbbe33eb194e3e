"""Spheres and boxes as masks: volumes, positions, borders, oblique and flipped grids."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.imaging.regions import Box, Sphere, region_box, region_mask

GRID = Geometry((20, 30, 40), np.diag([2.0, 3.0, 4.0, 1.0]))  # x = 2 c, y = 3 r, z = 4 k


def voxels_of(region: Sphere | Box, geometry: Geometry = GRID) -> set[tuple[int, ...]]:
    box = region_box(region, geometry)
    if box is None:
        return set()
    inside = np.argwhere(region_mask(region, geometry, box)) + [axis.start for axis in box]
    return set(map(tuple, inside.tolist()))


def test_a_box_holds_the_voxels_whose_centres_are_inside() -> None:
    # x 18 to 22, y 27 to 33, z 38 to 42
    assert voxels_of(Box((20, 30, 40), (4, 6, 4))) == {(10, r, c) for r in (9, 10, 11) for c in (9, 10, 11)}


def test_a_sphere_holds_the_voxels_whose_centres_are_inside() -> None:
    # radius 3: two pixels of 2 mm are too far, one row of 3 mm is on the surface, a slice of 4 mm is too far
    assert voxels_of(Sphere((20, 30, 40), 3)) == {(10, 10, 9), (10, 10, 10), (10, 10, 11), (10, 9, 10), (10, 11, 10)}


def test_the_volume_of_a_sphere() -> None:
    geometry = Geometry((60, 60, 60), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert len(voxels_of(Sphere((30, 30, 30), 20), geometry)) == pytest.approx(4 / 3 * math.pi * 20**3, rel=0.01)


def test_the_border_of_the_grid_cuts_a_region() -> None:
    assert voxels_of(Box((0, 0, 0), (4, 6, 8))) == {(k, r, c) for k in (0, 1) for r in (0, 1) for c in (0, 1)}


@pytest.mark.parametrize("region", [Sphere((-50, 0, 0), 10), Box((0, 0, 500), (5, 5, 5)), Sphere((21, 31, 41), 0.2)])
def test_a_region_without_a_voxel_has_no_range(region: Sphere | Box) -> None:
    assert not voxels_of(region)


def test_a_region_keeps_its_place_on_a_flipped_and_rotated_grid() -> None:
    angle = math.radians(20)
    rotation = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation @ np.diag([2.0, 3.0, 4.0]), (5, -20, 90)
    geometry, region = Geometry((20, 30, 40), affine), Box((20, 30, 60), (11, 13, 17))
    every = np.argwhere(np.ones(geometry.shape, np.bool_))
    inside = region.contains(geometry.to_world(every[:, ::-1].astype(np.float64)))
    assert voxels_of(region, geometry) == set(map(tuple, every[inside].tolist()))
    assert inside.sum() > 50


@pytest.mark.parametrize(
    ("center", "size"), [((0, 0, math.nan), 1), ((0, 0, 0), 0), ((0, 0), 1), ((0, 0, 0), math.inf)]
)
def test_an_impossible_region_is_refused(center: tuple[float, ...], size: float) -> None:
    with pytest.raises(InputError, match="a size above 0"):
        Sphere(center, size)  # type: ignore[arg-type]
