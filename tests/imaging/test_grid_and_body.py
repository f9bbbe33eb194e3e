"""The recipe's grid, and where the body is."""

import numpy as np
import pytest

from lib.errors import RecipeError
from lib.imaging.body import body_mask
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.volume import Unit, Volume


def chest_ct(rows: int = 512, pixel_mm: float = 0.9766) -> Geometry:
    return Geometry.from_dicom(
        (2, rows, rows),
        first_position_mm=(0, 0, 0),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_spacing_mm=3,
    )


def test_pixels_of_two_millimetres_keep_the_field_of_view() -> None:
    grid = Grid(pixel_mm=2.0).on(chest_ct())  # 512 * 0.9766 = 500.02 mm
    assert grid.shape == (2, 250, 250)
    assert grid.spacing_mm[1] == pytest.approx(2.0, abs=0.001)


def test_the_papers_images_have_256_pixels_whatever_the_field_of_view() -> None:
    assert Grid(size=256).on(chest_ct(300, 1.5)).shape == (2, 256, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either pixel_mm"),
        ({"pixel_mm": 2.0, "size": 256}, "either pixel_mm"),
        ({"pixel_mm": 0.0}, "between 0.1 and 20"),
        ({"size": 2}, "between 16 and 4096"),
        ({"size": 256, "slices": "nearest"}, "resample, match"),
    ],
)
def test_impossible_grids_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Grid(**settings)  # type: ignore[arg-type]


def test_lungs_belong_to_the_body_and_the_room_does_not() -> None:
    ct_hu = np.full((2, 100, 100), -1000, np.float32)
    ct_hu[:, 20:80, 20:80] = 40  # a trunk
    ct_hu[:, 40:60, 40:60] = -850  # with a lung inside
    geometry = chest_ct(100, 2.0)
    mask = body_mask(Volume(ct_hu, geometry, Unit.HU))
    expected = np.zeros((2, 100, 100), bool)
    expected[:, 20:80, 20:80] = True
    np.testing.assert_array_equal(mask, expected)


def test_air_alone_has_no_body() -> None:
    assert not body_mask(Volume(np.full((1, 20, 20), -1000, np.float32), chest_ct(20).slab(slice(0, 1)), Unit.HU)).any()
