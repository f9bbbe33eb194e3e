"""Bootstrap intervals and limits of agreement, on values small enough to compute by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from lib.metrics.agreement import bootstrap_mean, limits_of_agreement


def test_the_interval_contains_the_mean() -> None:
    interval = bootstrap_mean([1.0, 2.0, 3.0, 4.0])
    assert interval.mean == 2.5
    assert 1.0 <= interval.low < 2.5 < interval.high <= 4.0
    assert interval.count == 4


def test_two_values_are_the_ends_of_their_interval() -> None:
    # means of two samples from {0, 1}: 0, 0.5, 1 with probabilities 1/4, 1/2, 1/4, so 2.5 % and 97.5 % are 0 and 1
    interval = bootstrap_mean([0.0, 1.0])
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_the_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=30)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=7).confidence_interval
    ours = bootstrap_mean(values)
    wide = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * wide)  # two bootstraps of 2,000 samples differ by noise
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * wide)


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=20)
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_equal_values_have_an_interval_of_zero_width() -> None:
    interval = bootstrap_mean([0.25] * 5)
    assert (interval.mean, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_values_that_are_not_finite_are_ignored() -> None:
    assert bootstrap_mean([1.0, math.nan, 3.0, math.inf]) == bootstrap_mean([1.0, 3.0])


@pytest.mark.parametrize(("values", "mean"), [([], None), ([math.nan], None), ([2.0], 2.0)])
def test_fewer_than_two_patients_have_no_interval(values: list[float], mean: float | None) -> None:
    result = bootstrap_mean(values).as_json()
    assert (result["mean"], result["low"], result["high"]) == (mean, None, None)
    json.dumps(result, allow_nan=False)


def test_limits_of_agreement() -> None:
    # differences 1, 2, 3: mean 2, standard deviation 1
    agreement = limits_of_agreement(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert agreement.mean_difference == 2
    assert (agreement.low, agreement.high) == pytest.approx((0.04, 3.96))
    assert agreement.count == 3


def test_pairs_that_are_not_finite_are_excluded_from_the_limits() -> None:
    first, second = np.array([2.0, math.nan, 4.0, 6.0]), np.array([1.0, 5.0, 2.0, 3.0])
    assert limits_of_agreement(first, second) == limits_of_agreement(first[[0, 2, 3]], second[[0, 2, 3]])


def test_limits_need_two_pairs() -> None:
    one, none = limits_of_agreement(np.array([2.0]), np.array([1.5])), limits_of_agreement(np.array([]), np.array([]))
    assert (one.mean_difference, one.count, none.count) == (0.5, 1, 0)
    assert math.isnan(one.low) and math.isnan(none.mean_difference)
    assert none.as_json()["mean_difference"] is None
