"""The comparison of a model with the baselines, summarised in one sentence for the model's card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lib.metrics.agreement import FEW_PATIENTS
from lib.metrics.caveats import Caveat
from lib.metrics.criteria import COMPARED_METRICS, KEY_METRIC, Metric
from lib.metrics.verdict import Judgement, Outcome, caveat_note, join_names, lookup_note

Mark = Literal["beats all", "not surely", "does not beat all", "not judged"]


@dataclass(frozen=True)
class BaselineComparison:
    """Whether a model beats every baseline in every metric of `COMPARED_METRICS`.

    Attributes:
        mark: `not surely` where the model is better on average everywhere, but not significantly so everywhere.
        sentence: The result for a reader, with baselines, metrics, values and the patients evaluated.
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
    return BaselineComparison("not judged", f"Not judged: {reason}. How it compares with baselines is unknown.", {})


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
    on_average = f"Better than {judgement.all_baselines} on average"
    mark: Mark
    if lost:
        mark, result = "does not beat all", f"Does {'; '.join([*lost, *unsure]).removeprefix('does ')}"
    elif unsure and judgement.patients == 1 and not caution:
        mark, result = (
            "not surely",
            f"{on_average}; with 1 patient the difference is not significant: {_leads(judgement)}",
        )
    elif unsure:
        mark, result = "not surely", f"{on_average}, but {'; '.join(unsure)}"
    else:
        mark, result = "beats all", f"Beats {judgement.all_baselines}: {_leads(judgement)}"
    outcomes: dict[str, Mapping[str, Outcome]] = {
        metric.name: {name: judgement.against[name][metric.name].outcome for name in judgement.baselines}
        for metric in COMPARED_METRICS
    }
    sentence = f"{result}. Evaluated on {evaluated_on}{note}.{lookup_note(judgement)}{caveat_note(judgement)}"
    return BaselineComparison(mark, sentence, outcomes, judgement.caveats)


def _clauses(judgement: Judgement, outcome: Outcome) -> list[str]:
    """Return one clause for each metric in which some baseline has this outcome."""
    clauses = []
    for metric in COMPARED_METRICS:
        names = judgement.outcomes(metric.name, outcome)
        if not names:
            continue
        best = min if metric.best == "lowest" else max
        strongest = best(names, key=lambda name: judgement.intervals[name][metric.name].mean)
        model, other = (_mean(judgement, method, metric) for method in ("model", strongest))
        values = f"{model} against {other}" + (f" of {strongest}" if len(names) > 1 else "")
        verb = "does not beat" if outcome == "not beaten" else "not significantly better than"
        baselines = "any baseline" if names == judgement.baselines else join_names(names)
        clauses.append(f"{verb} {baselines} in {metric.name} ({values})")
    return clauses


def _leads(judgement: Judgement) -> str:
    """Return the values of the model and of the strongest baseline in each metric."""
    leads = []
    for metric in COMPARED_METRICS:
        if strongest := judgement.strongest.get(metric.name):
            model, other = (_mean(judgement, method, metric) for method in ("model", strongest))
            leads.append(f"{metric.name} {model} against {other} of {strongest}")
    return ", ".join(leads)


def _mean(judgement: Judgement, method: str, metric: Metric) -> str:
    mean = judgement.intervals[method][metric.name].mean
    return "no value" if math.isnan(mean) else f"{mean:.{metric.digits}f}"
