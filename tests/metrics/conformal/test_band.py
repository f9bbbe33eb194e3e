"""Conformal bands: quantiles by hand, finite-sample coverage on simulated patients, few patients, damaged JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.errors import InputError
from lib.mapping import from_mapping
from lib.metrics.conformal.band import (
    LEVELS,
    Band,
    Observed,
    covered_shares,
    fit_band,
    hierarchical_quantile,
    required_patients,
)

BAND = Band(9, (1.0, 4.0), (0.1, 0.3), (1.0, 2.0, 3.0, None))


def observed(synthetic: list[float], real: list[float]) -> Observed:
    return Observed(np.array(synthetic, np.float32), np.array(real, np.float32))


def simulated(rng: np.random.Generator, patients: int, observations: int = 40) -> list[Observed]:
    """Exchangeable patients: each has a bias and a spread of its own, and the errors grow with the SUV."""
    found = []
    for _ in range(patients):
        suv = rng.gamma(2, 0.7, observations)
        bias, spread = rng.normal(0, 0.2), rng.gamma(4, 0.05)
        root = np.sqrt(suv) * (1 + bias + rng.normal(0, spread, observations))
        found.append(Observed(suv.astype(np.float32), np.square(np.maximum(root, 0)).astype(np.float32)))
    return found


# -- the quantile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "patients"), [(0.5, 4), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_required_patients(level: float, patients: int) -> None:
    assert required_patients(level) == patients


@pytest.mark.parametrize(("level", "expected"), [(0.5, 5.0), (0.8, 8.0), (0.9, 9.0), (0.95, math.inf)])
def test_one_score_per_patient_gives_the_order_statistic(level: float, expected: float) -> None:
    # nine patients: the ceil(10 * level)-th smallest
    scores = [np.array([float(score)]) for score in (3, 1, 2, 9, 8, 7, 4, 5, 6)]
    assert hierarchical_quantile(scores, level) == expected


def test_patients_have_equal_weights_whatever_their_number_of_scores() -> None:
    # weights 1/4 each and 1/4 at infinity: 100 scores of 1 weigh as much as one score of 2
    scores = [np.full(100, 1.0), np.array([2.0]), np.array([3.0])]
    assert [hierarchical_quantile(scores, level) for level in (0.25, 0.3, 0.5, 0.6, 0.75, 0.8)] == [
        1,
        2,
        2,
        3,
        3,
        math.inf,
    ]


@given(st.integers(0, 2**32), st.integers(4, 30), st.sampled_from(LEVELS))
@settings(max_examples=20, deadline=None)
def test_the_quantile_covers_an_unseen_patient_with_the_promised_probability(seed: int, n: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    covered = []
    for _ in range(400):
        scores = [rng.gamma(2, rng.gamma(2), rng.integers(1, 6)) for _ in range(n + 1)]
        covered.append(float((scores[-1] <= hierarchical_quantile(scores[:-1], level)).mean()))
    assert np.mean(covered) >= level - 4 * np.std(covered) / math.sqrt(400) - 1e-9


# -- the band ----------------------------------------------------------------------------------------------------------


def test_the_interval_is_symmetric_on_the_square_root_scale() -> None:
    limits = BAND.limits(np.array([1.0, 2.25, 4.0, 9.0], np.float32), 0.8)
    assert limits is not None
    # square roots 1, 1.5, 2 and 3; spreads 0.1, 0.2, 0.3 and, beyond the last knot, 0.3; twice each
    np.testing.assert_allclose(limits[0], np.square([0.8, 1.1, 1.4, 2.4]), rtol=1e-6)
    np.testing.assert_allclose(limits[1], np.square([1.2, 1.9, 2.6, 3.6]), rtol=1e-6)


def test_the_lower_end_is_not_below_zero() -> None:
    limits = BAND.limits(np.array([0.0, 0.01], np.float32), 0.9)
    assert limits is not None and (limits[0] == 0).all() and (limits[1] > 0).all()


def test_too_few_patients_give_no_interval() -> None:
    assert BAND.limits(np.ones(3, np.float32), 0.95) is None


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InputError, match=r"no intervals of level 0\.7; expected one of 0\.5, 0\.8"):
        BAND.limits(np.ones(1, np.float32), 0.7)


@pytest.mark.parametrize(("patients", "defined"), [(1, 0), (3, 0), (4, 2), (8, 2), (9, 3), (18, 3), (19, 4)])
def test_levels_with_too_few_patients_have_no_factor(patients: int, defined: int) -> None:
    band = fit_band(simulated(np.random.default_rng(1), patients), patients_per_knot=4)
    assert [factor is not None for factor in band.factors] == [index < defined for index in range(4)]
    assert band.patients == patients


@given(st.integers(0, 2**32), st.integers(10, 24))
@settings(max_examples=4, deadline=None)
def test_bands_cover_unseen_patients(seed: int, n: int) -> None:
    """Coverage, mean over patients, is at least as promised; the conformal surplus is at most 1 / (n + 1)."""
    rng = np.random.default_rng(seed)
    covered = []
    for _ in range(40):
        band = fit_band(simulated(rng, n, 20), patients_per_knot=4)
        covered += [covered_shares(band, patient)[2] for patient in simulated(rng, 20, 20)]
    assert 0.9 - 0.025 <= np.mean(covered) <= 0.9 + 1 / (n + 1) + 0.025


def test_the_coverage_of_held_out_patients_is_kept() -> None:
    band = fit_band(simulated(np.random.default_rng(3), 36), patients_per_knot=4)
    for level, reached, below in zip(LEVELS, band.reached, band.below, strict=True):
        assert reached is not None and below is not None
        assert reached == pytest.approx(level, abs=0.08)
        assert 0 <= below <= 1


def test_a_perfect_model_has_narrow_intervals() -> None:
    values = [observed([1, 2, 3], [1, 2, 3])] * 9
    band = fit_band(values, patients_per_knot=4)
    low, high = band.limits(np.array([2.0], np.float32), 0.9) or (None, None)
    assert low is not None and high is not None and high[0] - low[0] < 0.01


def test_more_error_at_high_suv_gives_wider_intervals_there() -> None:
    rng = np.random.default_rng(0)
    band = fit_band(simulated(rng, 30, 200), patients_per_knot=4)
    assert len(band.suv_bw) > 3 and (np.diff(band.spread) > 0).all()


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_json_round_trip() -> None:
    band = fit_band(simulated(np.random.default_rng(2), 12), patients_per_knot=4, volume_ml=(2.0, 8.0))
    read = from_mapping(Band, json.loads(json.dumps(band.to_json())))
    suv = np.linspace(0, 20, 50).astype(np.float32)
    for level in LEVELS[:3]:
        np.testing.assert_allclose(read.limits(suv, level), band.limits(suv, level), rtol=1e-3, atol=1e-3)
    assert read.limits(suv, 0.95) is None and read.volume_ml == (2.0, 8.0) and read.patients == 12
    assert read.to_json() == band.to_json()


@pytest.mark.parametrize(
    "damage",
    [
        {"patients": "many"},
        {"suv_bw": [1.0, 0.5]},
        {"suv_bw": []},
        {"suv_bw": [[1.0, 4.0]]},
        {"suv_bw": 1.0},
        {"spread": [0.1, 0.0]},
        {"spread": [0.1]},
        {"spread": [0.1, math.nan]},
        {"factors": [1.0, 2.0]},
        {"factors": [1.0, 2.0, math.inf, None]},
        {"factors": [1.0, 2.0, -3.0, None]},
        {"factors": None},
        {"reached": ["all"] * 4},
        {"volume_ml": [1.0]},
        {"more": 1},
    ],
)
def test_damaged_json_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises((InputError, ValueError)):
        from_mapping(Band, {**BAND.to_json(), **damage})
