"""Bootstrap confidence intervals of means over patients, and limits of agreement."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lib.types import NamedNumbers

Value = TypeVar("Value")

RESAMPLES = 2000
SEED = 20_240_501  # arbitrary but fixed, so that the same values give the same interval
LEVEL = 0.95
FEW_PATIENTS = 10  # below this a percentile interval is too narrow to rely on
LIMITS_SD = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True)
class Interval(NamedNumbers):
    """A mean with its 95 % confidence interval.

    Attributes:
        mean: NaN without values.
        low, high: NaN for fewer than two values: one patient does not show the variation between patients.
        count: Number of values.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Agreement(NamedNumbers):
    """Bland and Altman's limits of agreement of two measurements.

    Attributes:
        mean_difference: First - second.
        low, high: Limits that hold 95 % of normally distributed differences; NaN for fewer than two.
        count: Number of differences.
    """

    mean_difference: float
    low: float
    high: float
    count: int


def group_by_patient(pairs: Iterable[tuple[str, Value]]) -> dict[str, list[Value]]:
    """Group the values of (patient, value) pairs by patient; patients and values keep their order."""
    patients: dict[str, list[Value]] = {}
    for patient, value in pairs:
        patients.setdefault(patient, []).append(value)
    return patients


def finite_mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def bootstrap_mean(
    values: Iterable[float], *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Interval:
    """Return the mean of one value per patient with its percentile bootstrap interval.

    Values that are not finite are ignored. With few patients (below about ten) the interval is too narrow.

    Source: the percentile method, as scipy.stats.bootstrap 1.17 documents it.
    """
    finite = np.array([value for value in values if math.isfinite(value)], np.float64)
    if len(finite) < 2:
        return Interval(float(finite[0]) if len(finite) else math.nan, math.nan, math.nan, len(finite))
    samples = np.random.default_rng(seed).integers(len(finite), size=(resamples, len(finite)))
    low, high = np.quantile(finite[samples].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(finite.mean()), float(low), float(high), len(finite))


def limits_of_agreement(first: NDArray[Any], second: NDArray[Any]) -> Agreement:
    """Return the limits of agreement of two arrays of one shape, ignoring pairs with a value that is not finite.

    Formula: mean difference, plus and minus 1.96 standard deviations (Bland and Altman, Lancet 1986; 327:307-310).
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[np.isfinite(difference)]
    if difference.size < 2:
        mean = float(difference[0]) if difference.size else math.nan
        return Agreement(mean, math.nan, math.nan, int(difference.size))
    mean, half = float(difference.mean()), LIMITS_SD * float(difference.std(ddof=1))
    return Agreement(mean, mean - half, mean + half, int(difference.size))
