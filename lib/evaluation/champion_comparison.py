"""A challenger compared with the champion, metric by metric, over the same patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean
from lib.metrics.criteria import Metric
from lib.metrics.verdict import MethodMetrics
from lib.types import finite_or_none

CHAMPION = "champion"
MIN_PATIENTS = 5  # for a sign test at 5 %: the chance that all favour one model is 1 / 2^5 = 3 %

Outcome = Literal["better", "level", "worse", "not measured"]


@dataclass(frozen=True)
class PairedComparison:
    """Challenger and champion in one metric, over the patients that have a value of both.

    Attributes:
        challenger, champion: Mean over patients.
        difference: Challenger - champion, with its 95 % bootstrap interval over patients.
        outcome: `worse` and `better` where the full interval is on that side; with fewer than `MIN_PATIENTS` patients,
            where the mean is. `worse` also where the champion has a value and the challenger none, such as the
            correlation of a constant PET, or an infinite error.
    """

    metric: Metric
    challenger: float
    champion: float
    difference: Interval
    outcome: Outcome

    @property
    def is_behind(self) -> bool:
        """Whether the challenger's mean is worse, significantly or not."""
        return self.outcome == "worse" or _ahead(self.difference.mean, self.metric) < 0

    @property
    def summary(self) -> str:
        """The two means, and the interval of their difference, as text."""
        difference, digits = self.difference, self.metric.digits
        if math.isnan(self.challenger):
            return f"{self.metric.words} (no patient has a value of both)"
        means = f"{self.metric.words} {self.challenger:.{digits}f} against {self.champion:.{digits}f}{self.metric.unit}"
        if math.isnan(difference.low):
            return means
        low, high = (f"{end:+.{digits}f}" for end in (difference.low, difference.high))
        return f"{means} (difference {difference.mean:+.{digits}f}, 95 % {low} to {high})"

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for NaN."""
        means = finite_or_none({"challenger": self.challenger, "champion": self.champion})
        return {**means, "difference": self.difference.as_json(), "outcome": self.outcome}


def compare_fabrication(patients: Sequence[Sequence[MethodMetrics]], metric: Metric) -> PairedComparison:
    """Return the comparison in a number or volume of fabricated lesions.

    Only a full interval decides: with few patients the mean would, and one lesion more in one of them refuses a model
    that is equally good.
    """
    compared = compare_metric(patients, metric)
    low, high = compared.difference.low, compared.difference.high
    outcome: Outcome = "worse" if low > 0 else "better" if high < 0 else "level"
    return replace(compared, outcome=outcome if compared.difference.count else "not measured")


def compare_metric(patients: Sequence[Sequence[MethodMetrics]], metric: Metric) -> PairedComparison:
    """Return the comparison in one metric; patients are lists of their pairs' metrics by method."""
    rows = [tuple(_mean(pairs, method, metric.name) for method in ("model", CHAMPION)) for pairs in patients]
    both = [(model, other) for model, other in rows if math.isfinite(model) and math.isfinite(other)]
    challenger, champion = (finite_mean(row[n] for row in both) for n in (0, 1))
    difference = bootstrap_mean(model - other for model, other in both)
    collapsed = any(
        math.isfinite(other) and not math.isfinite(model) and not _ahead(model, metric) > 0 for model, other in rows
    )
    return PairedComparison(
        metric, challenger, champion, difference, "worse" if collapsed else _outcome(difference, metric)
    )


def _outcome(difference: Interval, metric: Metric) -> Outcome:
    if not difference.count:
        return "not measured"
    few = difference.count < MIN_PATIENTS
    ends = (difference.mean, difference.mean) if few else (difference.low, difference.high)
    ahead = [_ahead(end, metric) for end in ends]
    if max(ahead) < 0:
        return "worse"
    return "better" if min(ahead) > 0 else "level"


def _ahead(difference: float, metric: Metric) -> float:
    """Return a difference with the sign that is positive where the challenger is better."""
    return difference if metric.best == "highest" else -difference


def _mean(pairs: Sequence[MethodMetrics], method: str, name: str) -> float:
    """Return a patient's metric; NaN where it is undefined for a pair, so that a collapsed PET is not averaged out."""
    return sum(metrics[method].get(name, math.nan) for metrics in pairs) / len(pairs)
