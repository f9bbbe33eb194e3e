"""How a model stands beside the trivial predictors, in one sentence that goes wherever the model goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lib.metrics.agreement import FEW_PATIENTS
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import COMPARED_METRICS, KEY_MEASURE, Measure
from lib.metrics.verdict import Judgement, Outcome, listed, lookup_lesson

Mark = Literal["beats all", "not surely", "does not beat all", "not judged"]


@dataclass(frozen=True)
class BaselineComparison:
    """Whether a model beats every trivial predictor in every measure of `COMPARED_METRICS`.

    Attributes:
        mark: `not surely` where it is ahead everywhere, but chance may have given it some of that.
        sentence: The same for a reader: which predictors, in which measures, by what, judged on whom.
        outcomes: By measure and predictor; empty where nothing was judged.
    """

    mark: Mark
    sentence: str
    outcomes: Mapping[str, Mapping[str, Outcome]]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def not_judged(reason: str) -> BaselineComparison:
    """Return the standing of a model that nobody could judge, and why."""
    return BaselineComparison(
        "not judged", f"Not judged: {reason}. Nothing is known of how it does beside trivial predictors.", {}
    )


def compare_with_baselines(judgement: Judgement, *, evaluated_on: str, caution: str = "") -> BaselineComparison:
    """Return the standing that a judgement over `COMPARED_METRICS`, or more of them, gives.

    Args:
        judgement: Of the model.
        on_whom: Whose figures were judged, such as `5 validation patients`.
        caution: What a reader must know of these figures, in the place of "few" where patients are few.
    """
    if KEY_MEASURE not in judgement.strongest:
        return not_judged(f"no voxel inside a body was measured ({evaluated_on})")
    clauses = [*_clauses(judgement, "not beaten"), *_clauses(judgement, "unsure")]
    mark: Mark = "beats all"
    if any(judgement.outcomes(measure.name, "not beaten") for measure in COMPARED_METRICS):
        mark = "does not beat all"
    elif clauses:
        mark = "not surely"
    head = {
        "beats all": "Beats every trivial predictor: ",
        "not surely": "Does not surely beat every trivial predictor: ",
        "does not beat all": "Does not beat every trivial predictor: ",
    }[mark]
    told = "; ".join(clauses) or _lead(judgement)
    few = "few, so that confidence is overstated" if judgement.patients < FEW_PATIENTS else ""
    careful = caution or few
    sentence = f"{head}{told}. Judged on {evaluated_on}{f' ({careful})' if careful else ''}.{lookup_lesson(judgement)}"
    outcomes: dict[str, Mapping[str, Outcome]] = {
        measure.name: {name: judgement.against[name][measure.name].outcome for name in BASELINE_NAMES}
        for measure in COMPARED_METRICS
    }
    return BaselineComparison(mark, sentence, outcomes)


def _clauses(judgement: Judgement, outcome: Outcome) -> list[str]:
    """Return one clause for each measure in which some predictor has this outcome."""
    clauses = []
    for measure in COMPARED_METRICS:
        names = judgement.outcomes(measure.name, outcome)
        if not names:
            continue
        best = min if measure.best == "lowest" else max
        strongest = best(names, key=lambda name: judgement.intervals[name][measure.name].mean)
        model, other = (_mean(judgement, method, measure) for method in ("model", strongest))
        beside = f"{model} against {other}" + (f" of {strongest}" if len(names) > 1 else "")
        clauses.append(
            f"does not beat {listed(names)} in {measure.name} ({beside})"
            if outcome == "not beaten"
            else f"is ahead of {listed(names)} in {measure.name}, though not surely ({beside})"
        )
    return clauses


def _lead(judgement: Judgement) -> str:
    """Return by what a model that beats all leads the strongest predictor in each measure."""
    told = []
    for measure in COMPARED_METRICS:
        if strongest := judgement.strongest.get(measure.name):
            model, other = (_mean(judgement, method, measure) for method in ("model", strongest))
            told.append(f"{measure.name} {model} against {other} of {strongest}")
    return ", ".join(told)


def _mean(judgement: Judgement, method: str, measure: Measure) -> str:
    mean = judgement.intervals[method][measure.name].mean
    return "no value" if math.isnan(mean) else f"{mean:.{measure.digits}f}"
