"""Scores of a model and the baselines on the same patients, stored in the model card for later comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.metrics.agreement import bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baseline_comparison import BaselineComparison, compare_with_baselines, not_judged
from lib.metrics.criteria import HU_SHARE, METHODS, VERDICT_METRICS
from lib.metrics.verdict import judge_patients
from lib.types import finite_or_none

MetricsTable = Mapping[str, Mapping[str, float | None]]  # by method, by metric; None where undefined, as in JSON
NAMES = (*(metric.name for metric in VERDICT_METRICS), HU_SHARE)


@dataclass(frozen=True)
class Scores:
    """Scores of a model and the baselines on the same patients.

    Attributes:
        side: Side of the split of these patients.
        patients: Number of patients.
        table: Mean over patients by method (`model`, `zero`, `constant`, `hu_mean`, `hu_median`) and metric; None if
            undefined. The model also has `hu_share` (`lib/metrics/hu_lookup.py`).
        intervals: `mean`, `low`, `high` and `count` of these means, with 95 % bootstrap intervals over patients.
        by_patient: Scores by `patient_digest`, for paired comparisons of two models. Like `intervals`, empty in cards
            of earlier versions.
    """

    side: str
    patients: int
    table: MetricsTable
    intervals: Mapping[str, Mapping[str, Mapping[str, float | int | None]]] = field(default_factory=dict)
    by_patient: Mapping[str, MetricsTable] = field(default_factory=dict)

    def standing(self, *, evaluated_on: str) -> BaselineComparison:
        """Return the comparison of the model with the baselines.

        Args:
            on_whom: Description of the patients, such as `5 validation patients`.
        """
        if "model" not in self.table:
            return not_judged("the scores of the model are missing")
        of_patients = [(digest, _complete(table)) for digest, table in sorted(self.by_patient.items())]
        if of_patients:
            judgement = judge_patients(of_patients, metrics=VERDICT_METRICS)
            return compare_with_baselines(judgement, evaluated_on=evaluated_on)
        # means alone are treated as one patient: differences are not significant
        means = judge_patients([("", _complete(self.table))], metrics=VERDICT_METRICS)
        caution = "its card has only means, so the significance is unknown"
        return compare_with_baselines(means, evaluated_on=evaluated_on, caution=caution)


def scores_of(side: str, measured: Sequence[tuple[str, MetricsTable]]) -> Scores:
    """Return the scores of a side from (patient digest, metrics) of each pair; pairs of a patient are averaged."""
    by_patient = {digest: _mean_of(of) for digest, of in sorted(group_by_patient(measured).items())}
    intervals = {
        method: {
            name: bootstrap_mean(_number(table[method][name]) for table in by_patient.values()).as_json()
            for name in row
        }
        for method, row in _mean_of([*by_patient.values()]).items()
    }
    table = {method: {name: interval["mean"] for name, interval in row.items()} for method, row in intervals.items()}
    return Scores(side, len(by_patient), table, intervals, by_patient)


def _mean_of(tables: Sequence[MetricsTable]) -> dict[str, dict[str, float | None]]:
    """Return the mean of each metric over the tables that define it."""
    return {
        method: finite_or_none({name: finite_mean(_number(table[method][name]) for table in tables) for name in row})
        for method, row in (tables[0].items() if tables else ())
    }


def _complete(table: MetricsTable) -> dict[str, dict[str, float]]:
    """Return the metrics that the comparison uses, NaN if missing."""
    return {method: {name: _number(table.get(method, {}).get(name)) for name in NAMES} for method in METHODS}


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # an integer in JSON may exceed the range of float
        return math.nan
