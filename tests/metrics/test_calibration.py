"""Calibration curves: values computed by hand, comparison with scipy, and properties for arbitrary arrays."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import isotonic_regression

from lib.errors import InputError
from lib.metrics.calibration import Calibration, CalibrationSample, fit_calibration, pool_adjacent_violators
from lib.types import FloatArray

CURVE = Calibration(np.array([1.0, 3.0]), np.array([0.2, 0.6]), volumes=2)
SUVS = arrays.arrays(np.float32, (3, 40), elements=st.floats(0, 60, width=32))


def sample(synthetic: list[float], real: list[float], body: list[bool] | None = None) -> CalibrationSample:
    shape = (1, 1, len(synthetic))
    inside = np.ones(shape, np.bool_) if body is None else np.array(body).reshape(shape)
    return CalibrationSample(
        np.array(synthetic, np.float32).reshape(shape), np.array(real, np.float32).reshape(shape), inside
    )


def fit(*samples: CalibrationSample) -> Calibration:
    calibration = fit_calibration(samples)
    assert calibration is not None
    return calibration


# -- the curve ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suv", "error"), [(0.0, 0.2), (1.0, 0.2), (2.0, 0.4), (2.5, 0.5), (3.0, 0.6), (40.0, 0.6)])
def test_the_curve_is_linear_between_the_points_and_constant_beyond(suv: float, error: float) -> None:
    expected = CURVE.expected_error_suv(np.full((1, 2, 3), suv, np.float32))
    assert expected.shape == (1, 2, 3) and expected.dtype == np.float32
    np.testing.assert_allclose(expected, error, rtol=1e-6)


def test_each_suv_has_its_mean_error() -> None:
    # at SUV 1 errors of 0 and 0.2; at SUV 3 of 0.5 and 1.5
    curve = fit(sample([1, 1, 3, 3], [1, 1.2, 3.5, 1.5]))
    np.testing.assert_allclose(curve.suv_bw, [1, 3], rtol=1e-6)
    np.testing.assert_allclose(curve.error_suv, [0.1, 1.0], rtol=1e-6)


def test_a_decreasing_curve_is_pooled() -> None:
    # errors 0.4 at SUV 1 and 0.2 at SUV 2, with equal counts: 0.3 for both
    curve = fit(sample([1, 2, 4], [1.4, 2.2, 3]))
    np.testing.assert_allclose(curve.suv_bw, [1.5, 4], rtol=1e-6)
    np.testing.assert_allclose(curve.error_suv, [0.3, 1.0], rtol=1e-6)


def test_volumes_have_equal_weight_whatever_their_size() -> None:
    curve = fit(sample([1] * 99, [1.1] * 99), sample([1], [1.3]))
    assert (len(curve.error_suv), curve.volumes) == (1, 2)
    assert curve.error_suv[0] == pytest.approx(0.2, rel=1e-5)


def test_only_measured_body_voxels_are_used() -> None:
    curve = fit(sample([1, 1, 9], [1.5, math.nan, 0], [True, True, False]))
    assert curve.error_suv.tolist() == [0.5]


def test_suvs_above_the_last_step_are_pooled_there() -> None:
    assert fit(sample([60, 80], [59, 77])).error_suv.tolist() == [2.0]


def test_without_measured_voxels_there_is_no_curve() -> None:
    assert fit_calibration([]) is None
    assert fit_calibration([sample([1, 2], [1, 2], [False, False])]) is None


@given(synthetic=SUVS, real=SUVS)
def test_a_fitted_curve_stays_within_the_errors_and_their_mean(synthetic: FloatArray, real: FloatArray) -> None:
    body = np.ones(synthetic.shape, np.bool_)
    curve = fit(CalibrationSample(synthetic, real, body))
    errors = np.abs(synthetic.astype(np.float64) - real)
    assert errors.min() - 1e-6 <= curve.error_suv.min() <= errors.mean() + 1e-6
    assert errors.mean() - 1e-6 <= curve.error_suv.max() <= errors.max() + 1e-6
    shuffled = np.random.default_rng(0).permutation(synthetic.size)
    other = fit(CalibrationSample(synthetic.ravel()[shuffled], real.ravel()[shuffled], body.ravel()))
    np.testing.assert_allclose(other.expected_error_suv(synthetic), curve.expected_error_suv(synthetic), rtol=1e-5)


@given(synthetic=SUVS, real=SUVS)
def test_a_hotter_voxel_never_has_a_smaller_expected_error(synthetic: FloatArray, real: FloatArray) -> None:
    curve = fit(CalibrationSample(synthetic, real, np.ones(synthetic.shape, np.bool_)))
    ordered = curve.expected_error_suv(np.sort(synthetic, axis=None))
    assert (np.diff(ordered) >= 0).all()


def test_pooling_by_hand() -> None:
    # 3 and 2 violate: (3 + 2) / 2 = 2.5 at position (2 + 3) / 2
    places, values = pool_adjacent_violators(np.arange(1.0, 5), np.array([1.0, 3, 2, 4]), np.ones(4))
    assert (places.tolist(), values.tolist()) == ([1, 2.5, 4], [1, 2.5, 4])


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_pooling_is_the_isotonic_regression(points: list[tuple[float, float]]) -> None:
    values, weights = (np.array(column) for column in zip(*points, strict=True))
    theirs = isotonic_regression(values, weights=weights).x
    _, ours = pool_adjacent_violators(np.arange(float(len(values))), values, weights)
    assert np.abs(theirs[:, None] - ours[None, :]).min(axis=1).max() < 1e-9  # every level of theirs is one of ours
    assert np.abs(theirs[:, None] - ours[None, :]).min(axis=0).max() < 1e-9


def test_a_curve_survives_json() -> None:
    again = Calibration.from_json(json.loads(json.dumps(CURVE.to_json(), allow_nan=False)))
    assert (again.suv_bw.tolist(), again.error_suv.tolist(), again.volumes) == ([1, 3], [0.2, 0.6], 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictor": "stars"}, "calibration of 'stars'"),
        ({"more": 1}, "expected 'synthetic SUV' with"),
        ({"suv_bw": [3.0, 1.0]}, "SUVs must be increasing"),
        ({"error_suv": [0.6, 0.2]}, "non-decreasing"),
        ({"error_suv": [-0.1, 0.2]}, "non-negative"),
        ({"error_suv": [0.1]}, "1 errors for 2 SUVs"),
        ({"error_suv": ["a", "b"]}, "not numbers"),
        ({"error_suv": [0.1, math.inf]}, "finite"),
        ({"suv_bw": [[1.0], [2.0]]}, "plain lists"),
    ],
)
def test_a_damaged_curve_is_rejected(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Calibration.from_json({**CURVE.to_json(), **changes})


def test_different_shapes_are_rejected() -> None:
    with pytest.raises(InputError, match="must have the same shape"):
        CalibrationSample(
            np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 2), np.bool_)
        )
