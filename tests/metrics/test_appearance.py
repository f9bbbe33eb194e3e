"""What a reader sees at once, on volumes of a few voxels worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib.errors import InputError
from lib.metrics.appearance import compare_projections, measure_appearance, roughness_suv

BODY = np.ones((3, 2, 2), bool)
CM = (10.0, 10.0, 10.0)  # voxels of 1 mL


def pet(*slices: list[list[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(slices, np.float32)


REAL = pet([[1, 2], [3, 4]], [[0, 0], [1, 5]], [[2, 2], [2, 2]])


def test_projections_are_maxima_along_rows_and_columns() -> None:
    # coronal, maximum over rows: real (3 4 / 1 5 / 2 2); sagittal, over columns: (2 4 / 0 5 / 2 2)
    shifted = compare_projections(REAL + 1, REAL, BODY)
    assert [view.mae_suv for view in shifted.values()] == [1, 1] and list(shifted) == ["coronal", "sagittal"]
    assert [view.correlation for view in shifted.values()] == pytest.approx([1, 1])
    one = pet([[0, 0], [0, 0]], [[0, 0], [0, 9]], [[0, 0], [0, 0]])
    found = compare_projections(one, REAL, BODY)
    # only the pixel of 5 differs less: |0-3| + |0-4| + |0-1| + |9-5| + 2 + 2 = 16 over 6 pixels
    assert found["coronal"].mae_suv == pytest.approx(16 / 6)
    assert found["coronal"].correlation == pytest.approx(np.corrcoef([0, 0, 0, 9, 0, 0], [3, 4, 1, 5, 2, 2])[0, 1])


def test_projections_are_clipped_and_end_at_the_body() -> None:
    bladder, hotter = REAL.copy(), REAL.copy()
    bladder[1, 1, 1], hotter[1, 1, 1] = 20, 60
    assert compare_projections(hotter, bladder, BODY)["coronal"].mae_suv == 0  # both beyond 10 SUV
    body = BODY.copy()
    body[0, 1, 1] = False
    outside = REAL.copy()
    outside[0, 1, 1] = 99
    assert compare_projections(outside, REAL, body)["sagittal"].mae_suv == 0


def test_a_flat_projection_has_no_correlation() -> None:
    flat = compare_projections(np.ones_like(REAL), REAL, BODY)
    assert all(math.isnan(view.correlation) for view in flat.values())
    empty = compare_projections(REAL, REAL, np.zeros_like(BODY))
    assert all(math.isnan(view.mae_suv) for view in empty.values())


def test_roughness_is_the_mean_second_difference_inside_the_body() -> None:
    ramp = np.arange(5, dtype=np.float32).reshape(5, 1, 1) * np.ones((5, 2, 2), np.float32)
    body = np.ones(ramp.shape, bool)
    assert roughness_suv(ramp, body, slice_mm=4) == 0
    jumps = ramp % 2  # 0 1 0 1 0: |0 - 2 + 0| = |1 - 0 + 1| = 2
    assert roughness_suv(jumps, body, slice_mm=4) == 2
    assert roughness_suv(jumps, body, slice_mm=2) == 0  # slices of 4 mm apart are equal
    body[:, 0] = False
    jumps[:, 0] = 50 * jumps[:, 0]
    assert roughness_suv(jumps, body, slice_mm=3.27) == 2
    assert math.isnan(roughness_suv(jumps[:2], body[:2], slice_mm=4))


def test_independent_noise_is_about_twice_its_standard_deviation_rough() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (40, 20, 20)).astype(np.float32)
    assert roughness_suv(noise, np.ones(noise.shape, bool), slice_mm=4) == pytest.approx(1.0, rel=0.05)


def test_volumes_above_the_threshold() -> None:
    synthetic = REAL.copy()
    synthetic[0, 0, 0], synthetic[1, 1, 1] = 3, 1  # real: 3, 4 and 5 are hot; synthetic: 3 (false), 3 and 4
    found = measure_appearance(synthetic, REAL, BODY, spacing_mm=CM)
    assert (found.hot_found_ml, found.hot_missed_ml, found.hot_false_ml, found.hot_volume_ratio) == (2, 1, 1, 1)
    doubled = measure_appearance(2 * REAL, REAL, BODY, spacing_mm=CM)
    assert doubled.roughness_ratio == pytest.approx(2) and doubled.mip_correlation == pytest.approx(1)
    cold = measure_appearance(REAL, np.ones_like(REAL), BODY, spacing_mm=CM)
    assert math.isnan(cold.hot_volume_ratio) and math.isnan(cold.roughness_ratio)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(InputError, match="expected one shape"):
        measure_appearance(REAL, REAL[:2], BODY, spacing_mm=CM)
