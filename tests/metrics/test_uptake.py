"""Tumour uptake and hot voxels, counted by hand and on the digital phantom of the IBSI."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lib.errors import InputError
from lib.metrics.uptake import PEAK_RADIUS_MM, HotVoxels, Uptake, hot_voxels, measure_uptake

# Digital phantom of the Image Biomarker Standardisation Initiative (CC BY 4.0), voxels of 2 mm, from
# github.com/theibsi/data_sets; reference values of the manual: mean 2.15, maximum 6, global intensity peak 3.1.
IBSI_PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    np.float32,
)
OUTSIDE = ((1, 2, 0), (2, 0, 3), (2, 0, 4), (2, 2, 2), (3, 0, 3), (3, 0, 4))


def test_the_ibsi_phantom() -> None:
    region = np.ones(IBSI_PHANTOM.shape, bool)
    region[tuple(np.transpose(OUTSIDE))] = False
    uptake = measure_uptake(IBSI_PHANTOM, region, spacing_mm=(2, 2, 2))
    assert uptake.volume_ml == pytest.approx(74 * 0.008)
    assert round(uptake.suv_mean, 2) == 2.15
    assert uptake.suv_max == 6
    assert round(uptake.suv_peak, 1) == 3.1


def test_the_sphere_holds_one_cubic_centimetre() -> None:
    assert pytest.approx(6.2035, abs=1e-4) == PEAK_RADIUS_MM
    assert 4 / 3 * math.pi * PEAK_RADIUS_MM**3 == pytest.approx(1000)


def test_peak_is_the_largest_mean_over_a_sphere_around_a_voxel_of_the_region() -> None:
    # 6 mm apart the sphere holds its centre and six neighbours; 8.5 mm, the diagonal, is too far
    suv = np.zeros((5, 5, 5), np.float32)
    suv[2, 2, 2], suv[2, 2, 3] = 7, 14
    region = np.zeros(suv.shape, bool)
    region[2, 2, 2] = True
    uptake = measure_uptake(suv, region, spacing_mm=(6, 6, 6))
    assert (uptake.suv_mean, uptake.suv_max) == (7, 7)
    assert uptake.suv_peak == pytest.approx((7 + 14) / 7)  # the hot neighbour is outside the region, inside the sphere


def test_spacing_decides_which_voxels_are_in_the_sphere() -> None:
    suv = np.zeros((3, 3, 3), np.float32)
    suv[1, 1, 1] = 9
    region = suv > 0
    assert measure_uptake(suv, region, spacing_mm=(10, 10, 10)).suv_peak == 9  # the sphere is smaller than a voxel
    assert measure_uptake(suv, region, spacing_mm=(10, 10, 5)).suv_peak == 3  # and two neighbours along a row


def test_the_sphere_is_cropped_at_the_border_and_at_unmeasured_voxels() -> None:
    suv = np.full((2, 2, 2), 100, np.float32)
    suv[0, 0, 0], suv[0, 0, 1] = 4, 6
    measured = np.zeros(suv.shape, bool)
    measured[0, 0] = True
    region = np.ones(suv.shape, bool)
    uptake = measure_uptake(suv, region, spacing_mm=(5, 5, 5), measured=measured)
    assert uptake == Uptake(volume_ml=0.25, suv_mean=5, suv_max=6, suv_peak=5)


def test_unmeasured_values_are_ignored() -> None:
    suv = np.full((3, 3, 3), np.nan, np.float32)
    suv[1] = 2
    uptake = measure_uptake(suv, np.ones(suv.shape, bool), spacing_mm=(3, 3, 3), measured=np.isfinite(suv))
    assert (uptake.suv_mean, uptake.suv_max, uptake.suv_peak) == (2, 2, 2)


def test_an_empty_region_has_no_uptake() -> None:
    suv = np.ones((2, 2, 2), np.float32)
    uptake = measure_uptake(suv, np.zeros(suv.shape, bool), spacing_mm=(2, 2, 2))
    assert uptake.volume_ml == 0
    assert all(math.isnan(value) for value in (uptake.suv_mean, uptake.suv_max, uptake.suv_peak))
    assert json.loads(json.dumps(uptake.as_json(), allow_nan=False))["suv_max"] is None


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match=r"region \(1, 2, 3\).* expected one shape \(K, R, C\)"):
        measure_uptake(np.ones((2, 2, 2), np.float32), np.ones((1, 2, 3), bool), spacing_mm=(2, 2, 2))


def test_hot_voxels_are_counted_inside_the_mask_only() -> None:
    real = np.array([[[3.0, 3.0, 2.5, 0.0, 9.0]]], np.float32)  # 2.5 itself is not above 2.5
    synthetic = np.array([[[4.0, 1.0, 0.0, 2.6, 9.0]]], np.float32)
    inside = np.array([[[True, True, True, True, False]]])
    hot = hot_voxels(synthetic, real, inside)
    assert hot == HotVoxels(real=2, shown=2, found=1)
    assert (hot.sensitivity, hot.false_share, hot.overlap) == (0.5, 0.5, 0.5)
    assert hot_voxels(synthetic, real, inside, threshold_suv=3.5) == HotVoxels(real=0, shown=1, found=0)


def test_shares_are_undefined_without_hot_voxels() -> None:
    nothing = HotVoxels(real=0, shown=0, found=0)
    assert math.isnan(nothing.sensitivity)
    assert math.isnan(nothing.false_share)
    assert math.isnan(nothing.overlap)


def test_a_pet_without_hot_voxels_has_zero_sensitivity() -> None:
    black = HotVoxels(real=4, shown=0, found=0)
    assert (black.sensitivity, black.overlap) == (0, 0)
