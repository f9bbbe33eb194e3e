"""Conformal prediction calibrated by patient: an interval for a real SUV, given the synthetic one.

Patients are exchangeable, the voxels or regions of one patient are not. So every patient has the same weight, shared by
its observations, and the unseen patient has the same weight at infinity (hierarchical conformal prediction: Lee,
Barber, Willett 2023, arXiv:2306.06342; Dunn, Wasserman, Ramdas 2022, arXiv:1809.07441). For a new patient of the same
population, the interval then holds a randomly chosen observation with at least the promised probability.

Residuals are measured on the square-root scale, on which their spread varies least, and divided by the mean absolute
residual at that synthetic SUV. On the SUV scale the interval is asymmetric, and never below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.metrics.calibration import pool_adjacent_violators
from lib.types import FloatArray

LEVELS = (0.5, 0.8, 0.9, 0.95)
MIN_PATIENTS = 4  # the spread of fewer is arbitrary
MAX_LEFT_OUT_SINGLY = 200  # observations, such as one lesion per patient
FOLDS = 6  # groups of patients, each scored with the spread of the others
MAX_KNOTS = 7  # the last has the highest 1/64 of the observations
MIN_SPREAD = 1e-3  # square root of SUV; a perfect model has no residuals
ROUNDING = 1e-9

Numbers = NDArray[np.float64]
PerLevel = tuple[float | None, ...]


class Observed(NamedTuple):
    """Synthetic and real SUVs of one patient, shape (N,) each, N above 0."""

    synthetic_suv: FloatArray
    real_suv: FloatArray


@dataclass(frozen=True)
class Band:
    """Intervals for one kind of observation, by level of `LEVELS`.

    Attributes:
        patients: Number of patients that it was calibrated on.
        suv_bw: Synthetic SUV of the knots, increasing.
        spread: Mean absolute residual at the knots, square root of SUV; linear in between, constant beyond.
        factors: Half of the interval's width in units of the spread, by level; None where the patients are too few.
        reached: Share of the observations of held-out patients in the interval, mean over patients, by level.
        below: Share of held-out patients of whose observations fewer than promised are in the interval, by level.
        volume_ml: Range of region volumes that it was calibrated on; None for a voxel or a lesion.
    """

    patients: int
    suv_bw: tuple[float, ...]
    spread: tuple[float, ...]
    factors: PerLevel
    reached: PerLevel = (None,) * len(LEVELS)
    below: PerLevel = (None,) * len(LEVELS)
    volume_ml: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        values = (*self.suv_bw, *self.spread, *self.factors, *self.reached, *self.below, *(self.volume_ml or ()))
        if not all(math.isfinite(value) and value >= 0 for value in values if value is not None):
            raise InputError("intervals: expected finite numbers, none below 0")
        if not len(self.suv_bw) == len(self.spread) > 0:
            raise InputError(f"intervals: {len(self.spread)} spreads for {len(self.suv_bw)} SUVs")
        if not (np.diff(self.suv_bw) > 0).all() or min(self.spread) == 0:
            raise InputError("intervals: SUVs must be increasing and spreads above 0")
        if any(len(values) != len(LEVELS) for values in (self.factors, self.reached, self.below)):
            raise InputError(f"intervals: expected {len(LEVELS)} values, for the levels {LEVELS}")

    def limits(self, synthetic_suv: FloatArray, level: float) -> tuple[FloatArray, FloatArray] | None:
        """Return the ends of the interval of each synthetic SUV, float32; None where the patients are too few.

        Raises:
            InputError: The level is not one of `LEVELS`.
        """
        factor = self.factors[level_index(level)]
        if factor is None:
            return None
        root = _root(synthetic_suv)
        half = factor * self.spread_at(root)
        low, high = np.square(np.maximum(root - half, 0)), np.square(root + half)
        return low.astype(np.float32), high.astype(np.float32)

    def spread_at(self, root: Numbers) -> Numbers:
        """Return the mean absolute residual at square roots of synthetic SUVs."""
        return np.asarray(np.interp(root, np.sqrt(self.suv_bw), self.spread))

    def scores(self, observed: Observed) -> Numbers:
        """Return the residuals in units of the spread, shape (N,)."""
        root = _root(observed.synthetic_suv)
        return np.asarray(np.abs(_root(observed.real_suv) - root) / self.spread_at(root))

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists, for a model card."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def level_index(level: float) -> int:
    """Return the position of a level in `LEVELS`.

    Raises:
        InputError: There is no such level.
    """
    for index, known in enumerate(LEVELS):
        if math.isclose(level, known):
            return index
    raise InputError(f"no intervals of level {level:g}; expected one of {', '.join(f'{x:g}' for x in LEVELS)}")


def required_patients(level: float) -> int:
    """Return the smallest number of patients for an interval of a level: 1 / (1 - level) - 1."""
    return max(MIN_PATIENTS, math.ceil(round(1 / (1 - level), 6)) - 1)


def hierarchical_quantile(scores: Sequence[Numbers], level: float) -> float:
    """Return the conformal quantile of scores, grouped by patient; infinity for too few patients.

    Each of the n patients has the weight 1 / (n + 1), shared by its scores; the rest is at infinity. With one score per
    patient it is the ceil((n + 1) * level)-th smallest.
    """
    if not scores:
        return math.inf
    values = np.concatenate(scores)
    weights = np.concatenate([np.full(len(own), 1 / (len(own) * (len(scores) + 1))) for own in scores])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= level - ROUNDING
    return float(values[order][reached.argmax()]) if reached.any() else math.inf


def fit_band(
    patients: Sequence[Observed], *, patients_per_knot: int, volume_ml: tuple[float, float] | None = None
) -> Band:
    """Return the intervals calibrated on patients, with the coverage reached on held-out ones.

    Args:
        patients: One entry per patient, not empty.
        patients_per_knot: Number of patients for each knot of the spread.
        volume_ml: See `Band`.
    """
    band = _fit(patients, patients_per_knot)
    shares: list[Numbers] = []
    for held_out, others in _folds(patients):
        if others:
            without = _fit(others, patients_per_knot)
            shares += [covered_shares(without, observed) for observed in held_out]
    reached, below = coverage_over_patients(shares)
    return replace(band, reached=reached, below=below, volume_ml=volume_ml)


def covered_shares(band: Band, observed: Observed) -> Numbers:
    """Return the share of one patient's observations in the interval, by level; NaN where there is no interval."""
    scores = band.scores(observed)
    return np.array([math.nan if x is None else (scores <= x + ROUNDING).mean() for x in band.factors])


def coverage_over_patients(shares: Sequence[Numbers]) -> tuple[PerLevel, PerLevel]:
    """Return the mean over patients of `covered_shares`, and the share of patients below the level; None if empty."""
    reached: list[float | None] = []
    below: list[float | None] = []
    for index, level in enumerate(LEVELS):
        own = np.array([patient[index] for patient in shares if math.isfinite(patient[index])])
        reached.append(float(own.mean()) if own.size else None)
        below.append(float((own < level - ROUNDING).mean()) if own.size else None)
    return tuple(reached), tuple(below)


def _fit(patients: Sequence[Observed], patients_per_knot: int) -> Band:
    band = _fit_spread(patients, patients_per_knot)
    if len(patients) < MIN_PATIENTS:
        return band
    scores: list[Numbers] = []
    for held_out, others in _folds(patients):
        # in-sample scores would be too small, except with a constant spread, which cancels out
        spread = band if len(band.suv_bw) == 1 else _fit_spread(others, patients_per_knot)
        scores += [spread.scores(observed) for observed in held_out]
    factors = [hierarchical_quantile(scores, level) for level in LEVELS]
    return replace(band, factors=tuple(x if math.isfinite(x) else None for x in factors))


def _fit_spread(patients: Sequence[Observed], patients_per_knot: int) -> Band:
    """Return a band with the spread alone; the knots are means over groups, each half as large as the one below."""
    root = np.concatenate([_root(observed.synthetic_suv) for observed in patients])
    residual = np.abs(np.concatenate([_root(observed.real_suv) for observed in patients]) - root)
    weights = np.concatenate([np.full(len(own.real_suv), 1 / len(own.real_suv)) for own in patients])
    knots = int(np.clip(len(patients) // patients_per_knot, 1, MAX_KNOTS))
    order = np.argsort(root, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    edges = root[order][np.searchsorted(share, 1 - 0.5 ** np.arange(1, knots))]
    group = np.searchsorted(edges, root)
    sums = np.stack([np.bincount(group, weights=weights * values) for values in (np.ones_like(root), root, residual)])
    total, roots, residuals = sums[:, sums[0] > 0]
    positions, spread = pool_adjacent_violators(roots / total, residuals / total, total)
    suv_bw, floored = np.square(positions).tolist(), np.maximum(spread, MIN_SPREAD).tolist()
    return Band(len(patients), tuple(suv_bw), tuple(floored), (None,) * len(LEVELS))


def _folds(patients: Sequence[Observed]) -> list[tuple[list[Observed], list[Observed]]]:
    """Return (held out, others) for each group of patients; groups of one patient where that is quick."""
    few = sum(len(own.real_suv) for own in patients) <= MAX_LEFT_OUT_SINGLY
    count = len(patients) if few else min(FOLDS, len(patients))
    return [
        (list(patients[first::count]), [own for number, own in enumerate(patients) if number % count != first])
        for first in range(count)
    ]


def _root(suv_bw: FloatArray) -> Numbers:
    return np.sqrt(np.maximum(np.asarray(suv_bw, dtype=np.float64), 0))


def _plain(value: Any) -> Any:
    """Return tuples as lists, and numbers to five decimals."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return round(value, 5) if isinstance(value, float) else value
