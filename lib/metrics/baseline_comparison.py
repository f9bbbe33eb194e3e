"""The comparison of a model with the baselines, summarised in one sentence for the model's card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lib.metrics.agreement import FEW_PATIENTS
from lib.metrics.caveats import Caveat
from lib.metrics.criteria import COMPARED_METRICS, KEY_METRIC, METHOD_LABELS, Metric
from lib.metrics.verdict import (
    Judgement,
    Outcome,
    capitalize,
    caveat_note,
    join_names,
    lookup_note,
    name_baselines,
)

Mark = Literal["beats all", "not surely", "does not beat all", "not judged"]


@dataclass(frozen=True)
class BaselineComparison:
    """Whether a model beats every baseline in every metric of `COMPARED_METRICS`.

    Attributes:
        mark: `not surely` where the model is better on average everywhere, but not significantly so everywhere.
        sentence: For a reader: first the result, then the patients evaluated, then metrics and values.
        outcomes: By metric and baseline; empty where nothing was evaluated.
        caveats: What a reader sees at once and these metrics do not show; part of the sentence, whatever the mark.
    """

    mark: Mark
    sentence: str
    outcomes: Mapping[str, Mapping[str, Outcome]]
    caveats: tuple[Caveat, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "caveats": [caveat.as_json() for caveat in self.caveats]}


def not_judged(reason: str) -> BaselineComparison:
    """Return the comparison of a model that could not be evaluated, with the reason."""
    return BaselineComparison("not judged", f"Not compared with the baselines: {reason}.", {})


def compare_with_baselines(judgement: Judgement, *, evaluated_on: str, caution: str = "") -> BaselineComparison:
    """Return the comparison with the baselines in the metrics of `COMPARED_METRICS`.

    Args:
        judgement: Of the model, over `COMPARED_METRICS` or more metrics, such as `VERDICT_METRICS` for caveats.
        evaluated_on: The patients evaluated, such as `5 validation patients`.
        caution: A limitation of these values, stated instead of a small number of patients.
    """
    if KEY_METRIC not in judgement.strongest:
        return not_judged(f"no voxel inside a body was measured ({evaluated_on})")
    few = "few, so the confidence intervals are too narrow" if judgement.patients < FEW_PATIENTS else ""
    note = f" ({caution or few})" if caution or few else ""
    lost, unsure = (_clauses(judgement, outcome) for outcome in ("not beaten", "unsure"))
    mark: Mark
    others = ""
    if lost:
        mark, result = "does not beat all", capitalize(lost[0])
        others = f" It is also {'; '.join([*lost[1:], *unsure])}." if lost[1:] or unsure else ""
    elif unsure:
        words = [metric.words for metric in COMPARED_METRICS if judgement.outcomes(metric.name, "unsure")]
        where = "" if len(words) == len(COMPARED_METRICS) else f" in {join_names(words)}"
        mark, result = "not surely", f"Better than {judgement.all_baselines} on average, but not significantly{where}"
    else:
        mark, result = "beats all", f"Better than {judgement.all_baselines}"
    outcomes: dict[str, Mapping[str, Outcome]] = {
        metric.name: {name: judgement.against[name][metric.name].outcome for name in judgement.baselines}
        for metric in COMPARED_METRICS
    }
    sentence = (
        f"{result}; tested on {evaluated_on}{note}.{others} {_values(judgement)}.{lookup_note(judgement)}"
        f"{caveat_note(judgement)}"
    )
    return BaselineComparison(mark, sentence, outcomes, judgement.caveats)


def _clauses(judgement: Judgement, outcome: Outcome) -> list[str]:
    """Return one clause for the metrics in which the same baselines have this outcome."""
    metrics: dict[tuple[str, ...], list[str]] = {}
    for metric in COMPARED_METRICS:
        if names := judgement.outcomes(metric.name, outcome):
            metrics.setdefault(names, []).append(metric.words)
    clauses = []
    for names, words in metrics.items():
        where = f"in {join_names(words)}"
        if outcome == "not beaten":
            clauses.append(f"not better than {name_baselines(judgement, names, 'any baseline')} {where}")
        else:
            baselines = name_baselines(judgement, names, judgement.all_baselines)
            clauses.append(f"better than {baselines} on average {where}, but not significantly")
    return clauses


def _values(judgement: Judgement) -> str:
    """Return the values of the model and of the strongest baseline in each metric."""
    values = []
    for metric in COMPARED_METRICS:
        if strongest := judgement.strongest.get(metric.name):
            model, other = (_mean(judgement, method, metric) for method in ("model", strongest))
            values.append(f"{metric.words} {model} and {other}{metric.unit} ({METHOD_LABELS[strongest]})")
    return f"Model and strongest baseline: {'; '.join(values)}"


def _mean(judgement: Judgement, method: str, metric: Metric) -> str:
    mean = judgement.intervals[method][metric.name].mean
    return "no value" if math.isnan(mean) else f"{mean:.{metric.digits}f}"
