"""Reference of a model: what the CTs it was trained on have in common, as stored in its model card.

It holds ranges, counts and averages over all training patients, and no values of a single one, except that a range ends
at the lowest and highest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lib.errors import CheckpointError
from lib.learning.familiarity.numbers import NUMBERS
from lib.learning.familiarity.profile import CTProfile
from lib.learning.familiarity.statistics import Statistics, Sums, distances, template_of
from lib.mapping import from_mapping

MIN_PATIENTS = 8  # with fewer, a range says little about the next patient
MAX_FLAGGED = 0.05  # share of training patients that may be unusual when each is judged by the others
MIN_UNUSUAL = 0.45  # widths of a range; lowest limit of a number
MARGIN = 1.5  # of a limit over the largest distance of a training patient judged by the others
MAX_VALUES = 50  # different values of a header fact that are kept
SIGNIFICANT = 5  # digits in the card


@dataclass(frozen=True)
class Reference:
    """What the training CTs have in common.

    Attributes:
        patients: Number of training patients; with fewer than `MIN_PATIENTS`, the rest is empty.
        ranges: Lowest and highest value of each number; distances are those of patients judged by the others.
        values: Number of patients with each value of a header fact.
        limits: How far outside the range of a number, in widths of the range, a CT is unusual.
        flagged: Number of training patients beyond a limit when each was judged by the others.
        histogram_mean, histogram_precision, template, feature_mean, feature_sd: See `Statistics`.
    """

    patients: int
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    flagged: int = 0
    histogram_mean: tuple[float, ...] = ()
    histogram_precision: tuple[tuple[float, ...], ...] = ()
    template: tuple[float, ...] = ()
    feature_mean: tuple[float, ...] = ()
    feature_sd: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Reference:
        """Return the reference of a model card.

        Raises:
            CheckpointError: Not a reference, or one of a newer version of ct2pet.
        """
        try:
            reference = from_mapping(cls, values)
            if reference.judges:
                reference.statistics()
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"invalid model card: familiarity: {error}; train the model again") from error
        return reference

    @property
    def judges(self) -> bool:
        """Whether there were enough training patients to judge another CT."""
        return bool(self.ranges)

    def statistics(self) -> Statistics:
        """Return the statistics for `distances`."""
        return Statistics(
            np.asarray(self.histogram_mean),
            np.asarray(self.histogram_precision),
            template_of(self.template),
            np.asarray(self.feature_mean),
            np.asarray(self.feature_sd),
        )


def fit_reference(profiles: Sequence[tuple[str, CTProfile]]) -> Reference:
    """Return the reference of training CTs; its limits let at most 5 % of their patients appear unusual.

    Args:
        profiles: Each training CT's patient and profile.
    """
    by_patient: dict[str, list[CTProfile]] = {}
    for patient, profile in profiles:
        by_patient.setdefault(patient, []).append(profile)
    if len(by_patient) < MIN_PATIENTS:
        return Reference(len(by_patient))
    total = Sums.of([profile for _, profile in profiles])
    numbers: list[dict[str, tuple[float, float]]] = []  # of each patient: lowest and highest of its CTs
    for of_patient in by_patient.values():
        others = total.without(Sums.of(of_patient)).statistics()
        numbers.append(_extremes([{**profile.numbers, **distances(profile, others)} for profile in of_patient]))
    ranges = _extremes([{name: pair[end] for name, pair in row.items()} for row in numbers for end in (0, 1)])
    scores = [_left_out_scores(number, numbers) for number in range(len(numbers))]
    typical = sorted(scores, key=lambda row: max(row.values()))[: len(scores) - int(MAX_FLAGGED * len(scores))]
    limits = {name: _rounded(max(MIN_UNUSUAL, MARGIN * max(row.get(name, 0.0) for row in typical))) for name in ranges}
    statistics = total.statistics()
    return Reference(
        patients=len(by_patient),
        ranges={name: (_rounded(low), _rounded(high)) for name, (low, high) in ranges.items()},
        values=_counts(by_patient),
        limits=limits,
        flagged=sum(any(score > limits[name] for name, score in row.items()) for row in scores),
        histogram_mean=_plain(statistics.histogram_mean),
        histogram_precision=tuple(_plain(row) for row in statistics.histogram_precision),
        template=_plain(statistics.template.ravel()),
        feature_mean=_plain(statistics.feature_mean),
        feature_sd=_plain(statistics.feature_sd),
    )


def _extremes(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest value of each number."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: (min(values), max(values)) for name, values in found.items()}


def _left_out_scores(number: int, numbers: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Return the distance of each of a patient's numbers from the range of the other patients'."""
    others = [row for other, row in enumerate(numbers) if other != number]
    scores = {}
    for name, (low, high) in numbers[number].items():
        seen = [row[name] for row in others if name in row]
        if seen:
            bottom, top = min(pair[0] for pair in seen), max(pair[1] for pair in seen)
            scores[name] = max(NUMBERS[name].distance(value, bottom, top) for value in (low, high))
    return scores


def _counts(by_patient: Mapping[str, Sequence[CTProfile]]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for of_patient in by_patient.values():
        for name, value in {pair for profile in of_patient for pair in profile.values.items()}:
            counts.setdefault(name, {})[value] = counts.get(name, {}).get(value, 0) + 1
    return {
        name: dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MAX_VALUES])
        for name, found in sorted(counts.items())
    }


def _plain(values: Any) -> tuple[float, ...]:
    return tuple(_rounded(float(value)) for value in values)


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT}g}")
