"""Corners that no slice ever saw are not zero uptake; zeros inside the field of view are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.volume import read_activity, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.imaging.field_of_view import mask_unmeasured, measured_pixels
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume


def pet_with_empty_corners(slices: int, size: int = 20) -> Volume:
    array = np.ones((slices, size, size), np.float32)
    r, c = np.ogrid[:size, :size]
    array[:, np.hypot(r - (size - 1) / 2, c - (size - 1) / 2) > size / 2] = 0
    return Volume(array, Geometry(array.shape, np.eye(4)), Unit.SUV_BW)


def test_the_corners_outside_a_round_field_of_view_are_masked() -> None:
    pet = pet_with_empty_corners(12)
    masked = mask_unmeasured(pet)
    assert np.array_equal(np.isnan(masked.array), pet.array == 0)
    assert np.nanmin(masked.array) == 1


def test_a_zero_inside_the_field_of_view_is_a_measurement() -> None:
    pet = pet_with_empty_corners(12)
    pet.array[:, 8:12, 8:12] = 0
    assert measured_pixels(pet)[8:12, 8:12].all()


def test_a_corner_that_one_slice_saw_is_measured() -> None:
    pet = pet_with_empty_corners(12)
    pet.array[5, 0, 0] = 0.1
    measured = measured_pixels(pet)
    assert measured[0, 0] and not measured[0, -1]


def test_a_few_slices_prove_nothing() -> None:
    pet = pet_with_empty_corners(9)
    assert mask_unmeasured(pet) is pet


def test_the_corners_of_a_real_uncropped_pet(shared_data: Path) -> None:
    (raw,) = scan_folder(shared_data / "sts_raw").usable("PT")
    measured = measured_pixels(read_activity(raw.series))
    radius = np.hypot(*np.ogrid[-63.5:64, -63.5:64])
    assert (~measured).sum() == 2539
    assert measured[radius < 66.7].all() and not measured[radius > 67.4].any()


@pytest.mark.parametrize("patient", ["STS_001", "STS_037", "STS_042"])
def test_a_cropped_real_pet_was_measured_everywhere(sts_folder: Path, patient: str) -> None:
    (found,) = scan_folder(sts_folder / patient / "PET").usable("PT")
    assert measured_pixels(read_pet(found.series)).all()
