"""Lesions as connected components, counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.evaluation.lesions.components import (
    Lesion,
    contoured_lesions,
    fixed_lesions,
    relative_lesions,
    relative_mask,
)

SHAPE = (4, 6, 6)


def pet(**voxels: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a PET of 1 SUV with these voxels, named by slice, row and column: v123."""
    suv = np.ones(SHAPE, np.float32)
    for name, value in voxels.items():
        suv[tuple(int(digit) for digit in name[1:])] = value
    return suv


EVERYWHERE = np.ones(SHAPE, bool)


def lesions_of(suv: np.ndarray[tuple[int, ...], np.dtype[np.float32]], *, min_ml: float = 0.5) -> list[Lesion]:
    return list(fixed_lesions(suv, EVERYWHERE, threshold_suv=2.5, voxel_ml=0.5, min_ml=min_ml).lesions)


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    assert lesions_of(pet(v000=3, v111=5)) == [Lesion(1.0, 5.0)]
    assert lesions_of(pet(v000=3, v222=5)) == [Lesion(0.5, 3.0), Lesion(0.5, 5.0)]


def test_the_threshold_itself_is_not_a_lesion() -> None:
    assert lesions_of(pet(v000=2.5)) == []


def test_small_components_are_ignored_and_the_others_renumbered() -> None:
    suv = pet(v000=3, v200=4, v201=6, v144=7, v145=8)
    found = fixed_lesions(suv, EVERYWHERE, threshold_suv=2.5, voxel_ml=0.5, min_ml=1.0)
    assert sorted(lesion.suv_max for lesion in found.lesions) == [6, 8]
    assert found.labels[0, 0, 0] == 0 and found.labels[2, 0, 0] == found.labels[2, 0, 1] > 0
    assert set(np.unique(found.labels)) == {0, 1, 2}
    for number, lesion in enumerate(found.lesions, start=1):
        assert suv[found.labels == number].max() == lesion.suv_max


def test_lesions_are_searched_inside_the_mask_only() -> None:
    body = EVERYWHERE.copy()
    body[0] = False
    assert fixed_lesions(pet(v000=9, v111=5), body, threshold_suv=2.5, voxel_ml=1).lesions == (Lesion(1.0, 5.0),)


def test_a_pet_without_uptake_has_no_lesion() -> None:
    nothing = fixed_lesions(pet(), EVERYWHERE, threshold_suv=2.5, voxel_ml=1)
    assert nothing.lesions == () and not nothing.labels.any()
    assert relative_lesions(nothing, pet(), voxel_ml=1).lesions == ()


def test_41_percent_of_each_components_own_maximum() -> None:
    # a row of 10, 4.2, 4.0, 3, 10: one component above 2.5; 4.1 is 41 % of its maximum, so that it falls into two
    suv = pet(v100=10, v101=4.2, v102=4.0, v103=3, v104=10, v330=3, v331=2.6)
    fixed = fixed_lesions(suv, EVERYWHERE, threshold_suv=2.5, voxel_ml=1)
    assert fixed.lesions == (Lesion(5, 10), Lesion(2, 3))
    assert relative_lesions(fixed, suv, voxel_ml=1).lesions == (Lesion(2, 10), Lesion(1, 10), Lesion(2, 3))


def test_a_contoured_tumour_is_cut_at_41_percent_of_its_regions_maximum() -> None:
    suv = pet(v100=2.0, v101=0.8, v102=0.9, v105=9)  # below 2.5, as tumours can be; the hot voxel is outside
    region = np.zeros(SHAPE, bool)
    region[1, 0, :3] = True
    assert relative_mask(suv, region).sum() == 2  # 0.82 or more
    assert contoured_lesions(suv, [region], voxel_ml=1).lesions == (Lesion(2, 2),)
    assert not relative_mask(np.zeros_like(suv), region).any()


def test_a_region_contoured_twice_is_one_lesion_and_a_nested_one_is_another() -> None:
    suv = pet(v100=10, v101=9, v102=8)
    large, small = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    large[1, 0, :3] = small[1, 0, 2:3] = True
    assert contoured_lesions(suv, [large, large], voxel_ml=1).lesions == (Lesion(3, 10),)
    assert contoured_lesions(suv, [small, large], voxel_ml=1).lesions == (Lesion(2, 10), Lesion(1, 8))


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_are_complete_and_disjoint(seed: int) -> None:
    suv = np.random.default_rng(seed).gamma(2, 1, (8, 12, 12)).astype(np.float32)
    body = np.ones(suv.shape, bool)
    found = fixed_lesions(suv, body, threshold_suv=2.5, voxel_ml=1, min_ml=0)
    assert ((found.labels > 0) == (suv > 2.5)).all()
    assert math.fsum(lesion.volume_ml for lesion in found.lesions) == (suv > 2.5).sum()
