"""Paired comparison of the model and an external program on the same patients, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.evaluation.champion_comparison import MIN_PATIENTS
from lib.metrics.agreement import Interval, bootstrap_mean, group_by_patient
from lib.metrics.criteria import METHOD_LABELS, METRICS, Metric, comparable
from lib.metrics.verdict import MethodMetrics, capitalize, join_names, mean_of_pairs

Ahead = Literal["model", "peer", "neither", "undefined"]
PAIRED_METRICS = tuple(
    metric
    for name in ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "tumour_suv_mean_error")
    for metric in METRICS
    if metric.name == name
)


@dataclass(frozen=True)
class PairedMetric:
    """One metric of the model and an external program, over the patients that have both.

    Attributes:
        model, program: Means.
        difference: Model - program, patient by patient; signed errors by their absolute value.
        ahead: Which one the full interval of the difference favours; `undefined` with fewer than `MIN_PATIENTS`
            patients, among whom that happens by chance.
    """

    model: Interval
    program: Interval
    difference: Interval
    ahead: Ahead

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        means = {"model": self.model.as_json(), "peer": self.program.as_json()}
        return {**means, "difference": self.difference.as_json(), "ahead": self.ahead}


@dataclass(frozen=True)
class ExternalComparison:
    """The model compared with one external program; `patients` have predictions of both."""

    program: str
    patients: int
    metrics: Mapping[str, PairedMetric]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        metrics = {name: paired.as_json() for name, paired in self.metrics.items()}
        return {"patients": self.patients, "sentence": external_sentence(self), "measures": metrics}


def compare_with_external(program: str, pairs: Sequence[tuple[str, MethodMetrics]]) -> ExternalComparison:
    """Return the comparison over (patient, metrics by method) pairs; pairs of one patient count as their mean."""
    patients = group_by_patient(pairs)
    metrics = {metric.name: _compare(list(patients.values()), program, metric) for metric in PAIRED_METRICS}
    return ExternalComparison(program, len(patients), metrics)


def external_sentence(comparison: ExternalComparison) -> str:
    """Return which of the two is better in which metric, as text."""
    program = METHOD_LABELS.get(comparison.program, comparison.program)
    if not comparison.patients:
        return f"Not compared with {program}: it has no volume of a patient that is unseen by the model."
    clauses = []
    few = comparison.patients < MIN_PATIENTS
    for ahead, how in (("model", "significantly better than"), ("peer", "significantly worse than")):
        words = [metric.words for metric in PAIRED_METRICS if comparison.metrics[metric.name].ahead == ahead]
        clauses += [f"{how} {program} in {join_names(words)}"] if words else []
    patients = "1 patient" if comparison.patients == 1 else f"{comparison.patients} patients"
    otherwise = f"too few patients to say whether it is better than {program}: at least {MIN_PATIENTS} are needed"
    result = capitalize("; ".join(clauses) or (otherwise if few else f"no significant difference from {program}"))
    mae = comparison.metrics[PAIRED_METRICS[0].name]
    return (
        f"{result}; tested on {patients}. Body MAE {mae.model.mean:.3f} SUV (model) and {mae.program.mean:.3f} SUV "
        f"({program})."
    )


def _compare(patients: Sequence[Sequence[MethodMetrics]], program: str, metric: Metric) -> PairedMetric:
    both = [tuple(mean_of_pairs(pairs, method, metric.name) for method in ("model", program)) for pairs in patients]
    both = [(ours, theirs) for ours, theirs in both if math.isfinite(ours) and math.isfinite(theirs)]
    difference = bootstrap_mean(
        comparable(ours, metric.best) - comparable(theirs, metric.best) for ours, theirs in both
    )
    low, high = (difference.low, difference.high) if metric.best == "highest" else (-difference.high, -difference.low)
    few = difference.count < MIN_PATIENTS
    ahead: Ahead = "undefined" if few or math.isnan(low) else "model" if low > 0 else "peer" if high < 0 else "neither"
    return PairedMetric(
        bootstrap_mean(ours for ours, _ in both), bootstrap_mean(theirs for _, theirs in both), difference, ahead
    )
