"""The error after rescaling by the optimal factor: computed by hand, and compared with every other factor."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.errors import InputError
from lib.metrics.level import rescale_best

VOXELS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[arrays(np.float32, n, elements=st.integers(-2, 20).map(lambda v: v / 4)) for _ in "sr"])
)


def suv(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_pet_wrong_by_a_factor_is_perfect_after_rescaling() -> None:
    found = rescale_best(suv(1, 2, 0, 4), suv(2.5, 5, 0, 10))
    assert found.best_factor == pytest.approx(2.5)
    assert found.mae_suv_body_rescaled == 0 and found.psnr_db_body_rescaled == math.inf


def test_the_weighted_median_computed_by_hand() -> None:
    # ratios 1, 2 and 4 with weights 1, 1 and 3: half of 5 is reached at 4
    found = rescale_best(suv(1, 1, 3), suv(1, 2, 12))
    assert found.best_factor == 4
    assert found.mae_suv_body_rescaled == pytest.approx((3 + 2 + 0) / 3)
    assert found.psnr_db_body_rescaled == pytest.approx(10 * math.log10(100 / (13 / 3)))


def test_uptake_missing_from_the_synthetic_pet_remains_an_error() -> None:
    found = rescale_best(suv(0, 2), suv(3, 1))
    assert (found.best_factor, found.mae_suv_body_rescaled) == (0.5, 1.5)


def test_a_pet_of_zeros_has_no_factor_and_keeps_its_error() -> None:
    found = rescale_best(suv(0, 0), suv(1, 3))
    assert math.isnan(found.best_factor) and found.mae_suv_body_rescaled == 2
    assert found.as_json()["best_factor"] is None


def test_a_factor_is_never_negative() -> None:
    found = rescale_best(suv(1, 1), suv(-1, -2))
    assert (found.best_factor, found.mae_suv_body_rescaled) == (0, 1.5)


def test_without_voxels_all_metrics_are_undefined() -> None:
    json.dumps(rescale_best(suv(), suv()).as_json(), allow_nan=False)
    assert math.isnan(rescale_best(suv(), suv()).mae_suv_body_rescaled)


@given(VOXELS)
def test_no_other_factor_gives_a_smaller_error(voxels: tuple[np.ndarray, np.ndarray]) -> None:
    synthetic, real = (side.astype(np.float64) for side in voxels)
    found = rescale_best(*voxels)
    # the sum of |f s - r| is piecewise linear in f: its minimum is at a breakpoint, or at the bound 0
    corners = real[synthetic != 0] / synthetic[synthetic != 0]
    others = [0.0, 1.0, *corners[corners >= 0], *np.linspace(0, 10, 41)]
    least = min(np.abs(factor * synthetic - real).mean() for factor in others)
    assert found.mae_suv_body_rescaled == pytest.approx(least, abs=1e-9)


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match=r"synthetic voxels \(2,\), real \(3,\)"):
        rescale_best(suv(1, 2), suv(1, 2, 3))
