"""How a model and the trivial predictors did on the same patients, kept so that it can be judged and compared later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.metrics.agreement import bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import COMPARED_METRICS, HU_SHARE, METHODS
from lib.metrics.verdict import judge_patients
from lib.types import finite_or_none

MetricsTable = Mapping[str, Mapping[str, float | None]]  # by method, by metric; None where undefined, as in JSON
NAMES = (*(measure.name for measure in COMPARED_METRICS), HU_SHARE)


@dataclass(frozen=True)
class Scores:
    """How a model and the trivial baselines did on the same patients.

    Attributes:
        side: Side of the split they were measured on.
        patients: How many.
        table: Mean over patients by method (`model`, `zero`, `constant`, `hu_mean`, `hu_median`) and measure; None
            where undefined. Of the model also `hu_share` (`lib/metrics/hu_lookup.py`).
        intervals: `mean`, `low`, `high` and `count` of the same means, 95 % bootstrap intervals over patients.
        by_patient: The same by `patient_digest`: two models that were measured on the same patients can be compared
            patient by patient. Empty in cards of old, like `intervals`.
    """

    side: str
    patients: int
    table: MetricsTable
    intervals: Mapping[str, Mapping[str, Mapping[str, float | int | None]]] = field(default_factory=dict)
    by_patient: Mapping[str, MetricsTable] = field(default_factory=dict)

    def standing(self, *, evaluated_on: str) -> BaselineComparison:
        """Return how the model stands beside the trivial predictors.

        Args:
            on_whom: Whose figures these are, such as `5 validation patients`.
        """
        if "model" not in self.table:
            return not_judged("there are no figures of the model")
        of_patients = [(digest, _complete(figures)) for digest, figures in sorted(self.by_patient.items())]
        if of_patients:
            judgement = judge_patients(of_patients, metrics=COMPARED_METRICS)
            return compare_with_baselines(judgement, evaluated_on=evaluated_on)
        # one row of means is judged as one patient is: it can lose, but not surely win
        means = judge_patients([("", _complete(self.table))], metrics=COMPARED_METRICS)
        caution = "its card keeps only their means, so the significance is unknown"
        return compare_with_baselines(means, evaluated_on=evaluated_on, caution=caution)


def scores_of(side: str, measured: Sequence[tuple[str, MetricsTable]]) -> Scores:
    """Return a side's scores, given each pair's figures and its patient's digest; a patient's pairs are averaged."""
    by_patient = {digest: _mean_of(of) for digest, of in sorted(group_by_patient(measured).items())}
    intervals = {
        method: {
            name: bootstrap_mean(_number(figures[method][name]) for figures in by_patient.values()).as_json()
            for name in row
        }
        for method, row in _mean_of([*by_patient.values()]).items()
    }
    table = {method: {name: interval["mean"] for name, interval in row.items()} for method, row in intervals.items()}
    return Scores(side, len(by_patient), table, intervals, by_patient)


def _mean_of(figures: Sequence[MetricsTable]) -> dict[str, dict[str, float | None]]:
    """Return the mean of each figure over those that have it."""
    return {
        method: finite_or_none({name: finite_mean(_number(of[method][name]) for of in figures) for name in row})
        for method, row in (figures[0].items() if figures else ())
    }


def _complete(figures: MetricsTable) -> dict[str, dict[str, float]]:
    """Return the figures that a standing is made of, NaN for what a card lacks."""
    return {method: {name: _number(figures.get(method, {}).get(name)) for name in NAMES} for method in METHODS}


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # a whole number of JSON may be larger than any float
        return math.nan
