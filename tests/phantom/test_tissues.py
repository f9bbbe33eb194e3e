"""Painting of ellipsoids: volumes and layers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lib.imaging.geometry import Geometry
from lib.phantom.tissues import TUBE_MM, Bands, Ellipsoid, Tissue, paint

ORIGIN = (0.0, 0.0, 0.0)


@pytest.fixture
def grid() -> Geometry:
    """A 60 mm cube of 1 mm voxels around the origin."""
    return Geometry.from_dicom(
        (60, 60, 60),
        first_position_mm=(-29.5, -29.5, -29.5),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(1, 1),
        slice_spacing_mm=1,
    )


@pytest.mark.parametrize(
    ("semi_axes_mm", "power", "volume_mm3"),
    [
        ((10, 10, 10), 2, 4 / 3 * np.pi * 1000),  # a ball
        ((20, 10, 5), 2, 4 / 3 * np.pi * 1000),  # an ellipsoid of the same volume
        ((10, 10, TUBE_MM), 2, np.pi * 100 * 60),  # a tube through the cube
        ((10, 10, 10), 100, 20**3),  # nearly a box
    ],
)
def test_a_solid_fills_its_volume(grid: Geometry, semi_axes_mm, power, volume_mm3) -> None:
    labels = paint([Ellipsoid(Tissue.LIVER, ORIGIN, semi_axes_mm, power=power)], grid, origin_mm=ORIGIN)
    assert (labels == Tissue.LIVER).sum() == pytest.approx(volume_mm3, rel=0.01)


def test_axes_rotate_a_solid(grid: Geometry) -> None:
    turned = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))  # the long axis from x to y
    long_in_x = paint([Ellipsoid(Tissue.LIVER, ORIGIN, (20, 8, 5))], grid, origin_mm=ORIGIN)
    long_in_y = paint([Ellipsoid(Tissue.LIVER, ORIGIN, (20, 8, 5), turned)], grid, origin_mm=ORIGIN)
    np.testing.assert_array_equal(long_in_y, long_in_x.transpose(0, 2, 1))


def test_slanted_solid_is_not_cut_by_its_box(grid: Geometry) -> None:
    half = float(np.sqrt(0.5))
    axes = ((half, half, 0.0), (-half, half, 0.0), (0.0, 0.0, 1.0))
    labels = paint([Ellipsoid(Tissue.LIVER, ORIGIN, (20, 8, 5), axes)], grid, origin_mm=ORIGIN)
    assert (labels > 0).sum() == pytest.approx(4 / 3 * np.pi * 20 * 8 * 5, rel=0.01)


def test_later_shapes_cover_earlier_ones_within_their_limits(grid: Geometry) -> None:
    body = Ellipsoid(Tissue.FAT, ORIGIN, (20, 20, 20))
    lung = Ellipsoid(Tissue.LUNG, (10, 0, 0), (5, 5, 5))
    vessel = Ellipsoid(Tissue.BLOOD, (10, 0, 0), (15, 3, 3), within=frozenset({Tissue.LUNG}))
    labels = paint([body, lung, vessel], grid, origin_mm=ORIGIN)
    assert labels[30, 30, 40] == Tissue.BLOOD  # x = 10.5 mm, inside the lung
    assert labels[30, 30, 32] == Tissue.FAT  # x = 2.5 mm, inside the vessel's ellipsoid, outside the lung
    assert labels[30, 30, 58] == Tissue.AIR


def test_bands_keep_layers(grid: Geometry) -> None:
    spine = Ellipsoid(Tissue.DISC, ORIGIN, (5, 5, TUBE_MM), bands=Bands(20, 5))
    labels = paint([spine], grid, origin_mm=ORIGIN)
    filled = (labels == Tissue.DISC).any(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(filled), [10, 11, 12, 13, 14, 30, 31, 32, 33, 34, 50, 51, 52, 53, 54])


def test_bands_climb_towards_the_back(grid: Geometry) -> None:
    ribs = Ellipsoid(Tissue.RIB, ORIGIN, (25, 25, TUBE_MM), bands=Bands(200, 5, slope=1.0))
    labels = paint([ribs], grid, origin_mm=ORIGIN)
    front, back = (np.flatnonzero(labels[:, row, 30] == Tissue.RIB) for row in (25, 35))
    assert len(front) == 5
    np.testing.assert_array_equal(back - front, 10)  # 10 mm further back, 10 mm higher


def test_the_origin_moves_everything(grid: Geometry) -> None:
    at_origin = paint([Ellipsoid(Tissue.LIVER, ORIGIN, (10, 8, 6))], grid, origin_mm=ORIGIN)
    moved = paint([Ellipsoid(Tissue.LIVER, ORIGIN, (10, 8, 6))], grid, origin_mm=(3, -2, 5))
    np.testing.assert_array_equal(moved, np.roll(at_origin, (5, -2, 3), axis=(0, 1, 2)))


def test_a_shape_outside_the_grid_paints_nothing(grid: Geometry) -> None:
    assert not paint([Ellipsoid(Tissue.LIVER, (500, 0, 0), (10, 10, 10))], grid, origin_mm=ORIGIN).any()
