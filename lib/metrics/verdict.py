"""Does a model beat the trivial predictors? Metric by metric, over patients, with how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import HU_SHARE, KEY_MEASURE, LOOKUPS, MEASURES, METHODS, WORDS, Best, Measure
from lib.metrics.hu_lookup import LOOKUP_SHARE

Outcome = Literal["beaten", "unsure", "not beaten", "undefined"]
Metrics = Mapping[str, float]  # by name, of one volume; NaN where not defined
MethodMetrics = Mapping[str, Metrics]  # by method, of one pair


@dataclass(frozen=True)
class Against:
    """The model beside one baseline in one measure.

    Attributes:
        difference: Model - baseline over the patients that have both; of errors with a sign, of their size.
        outcome: `beaten` where the whole interval is on the model's side; `unsure` where only the mean is, or one
            patient gives no interval; `undefined` where the baseline has no value. A model that is a lookup table of HU
            itself never beats one: its lead would be one of interpolation.
    """

    difference: Interval
    outcome: Outcome

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.difference.as_json(), "outcome": self.outcome}


@dataclass(frozen=True)
class Judgement:
    """A model over patients.

    Attributes:
        patients: How many.
        hu_share: Share of the model's PET that a voxel's HU explains.
        intervals: Mean and confidence by method and measure.
        against: By baseline and measure.
        strongest: By measure: the baseline with the best mean; none where no baseline has a value.
        best: By measure: the method with the best mean; none where several share it.
    """

    patients: int
    hu_share: Interval
    intervals: Mapping[str, Mapping[str, Interval]]
    against: Mapping[str, Mapping[str, Against]]
    strongest: Mapping[str, str]
    best: Mapping[str, str]

    @property
    def is_lookup(self) -> bool:
        """Whether the model is hardly more than a lookup table of HU."""
        return self.hu_share.mean >= LOOKUP_SHARE

    def outcomes(self, measure: str, *wanted: Outcome) -> tuple[str, ...]:
        """Return the baselines with one of these outcomes in a measure."""
        return tuple(name for name in BASELINE_NAMES if self.against[name][measure].outcome in wanted)

    def not_beaten(self, measure: str) -> tuple[str, ...]:
        """Return the baselines that the model does not surely beat in a measure."""
        return self.outcomes(measure, "unsure", "not beaten")

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "intervals": {
                method: {name: interval.as_json() for name, interval in row.items()}
                for method, row in self.intervals.items()
            },
            "against": {
                baseline: {name: against.as_json() for name, against in row.items()}
                for baseline, row in self.against.items()
            },
            "hu_share": self.hu_share.as_json(),
            "is_lookup": self.is_lookup,
            "strongest_baseline": dict(self.strongest),
            "not_beaten": {name: list(self.not_beaten(name)) for name in self.intervals["model"]},
            "verdict": {"measure": KEY_MEASURE, "sentence": verdict_sentence(self)},
        }


def judge_patients(pairs: Sequence[tuple[str, MethodMetrics]], *, metrics: Sequence[Measure] = MEASURES) -> Judgement:
    """Return the judgement over patients, given each pair and whose it is; pairs of one patient count as their mean."""
    patients = group_by_patient(pairs)
    rows = {
        method: {m.name: [mean_of_pairs(of, method, m.name) for of in patients.values()] for m in metrics}
        for method in METHODS
    }
    share = bootstrap_mean(mean_of_pairs(of, "model", HU_SHARE) for of in patients.values())
    is_lookup = share.mean >= LOOKUP_SHARE
    intervals = {method: {name: bootstrap_mean(values) for name, values in of.items()} for method, of in rows.items()}
    against: dict[str, dict[str, Against]] = {
        name: {
            m.name: _against(rows["model"][m.name], rows[name][m.name], m.best, lost=is_lookup and name in LOOKUPS)
            for m in metrics
        }
        for name in BASELINE_NAMES
    }
    strongest = {m.name: names[0] for m in metrics if (names := _foremost(rows, m, BASELINE_NAMES))}
    best = {m.name: names[0] for m in metrics if len(names := _foremost(rows, m, METHODS)) == 1}
    return Judgement(len(patients), share, intervals, against, strongest, best)


def verdict_sentence(judgement: Judgement) -> str:
    """Return in a few sentences which baselines the model beats inside the body."""
    strongest = judgement.strongest.get(KEY_MEASURE)
    if strongest is None:
        return "There is nothing to judge by: no voxel inside a body was measured."
    lost = judgement.outcomes(KEY_MEASURE, "not beaten")
    unsure = judgement.outcomes(KEY_MEASURE, "unsure")
    beaten = judgement.outcomes(KEY_MEASURE, "beaten")
    clauses = [f"does not beat {listed(lost)}"] if lost else []
    clauses += [f"beats {listed(beaten)}"] if beaten else []
    clauses += [f"is ahead of {listed(unsure)}, though not surely"] if unsure else []
    difference = judgement.against[strongest][KEY_MEASURE].difference
    sure = (
        "one patient gives no confidence interval"
        if math.isnan(difference.low)
        else f"difference {difference.mean:+.3f}, 95 % confidence {difference.low:+.3f} to {difference.high:+.3f}"
    )
    words = f"{sure}; {'1 patient' if judgement.patients == 1 else f'{judgement.patients} patients'} it has never seen"
    model, other = (judgement.intervals[method][KEY_MEASURE].mean for method in ("model", strongest))
    return (
        f"The model {'; it '.join(clauses)}. Its mean absolute error inside the body is {model:.3f} SUV; that of the "
        f"strongest trivial predictor, {strongest} ({WORDS[strongest]}), is {other:.3f} ({words})."
        f"{lookup_lesson(judgement)}"
    )


def lookup_lesson(judgement: Judgement) -> str:
    """Return what to think of a model that is a lookup table of HU, or is worth no more than one; else nothing."""
    if judgement.is_lookup:
        share = f"{100 * judgement.hu_share.mean:.0f} %"
        return (
            f" It is a lookup table itself: a voxel's HU alone explains {share} of its PET, so any lead over "
            "hu_mean or hu_median is one of interpolation."
        )
    if set(LOOKUPS) & set(judgement.outcomes(KEY_MEASURE, "not beaten")):
        return " So far it is worth no more than a lookup table of HU."
    return ""


def mean_of_pairs(pairs: Sequence[MethodMetrics], method: str, name: str) -> float:
    """Return a patient's figure, the mean over the pairs for which it is finite; NaN for none."""
    return finite_mean(figures[method][name] for figures in pairs)


def _against(model: Sequence[float], baseline: Sequence[float], best: Best, *, lost: bool) -> Against:
    if best == "nearest 0":
        model, baseline = [abs(value) for value in model], [abs(value) for value in baseline]
    difference = bootstrap_mean(a - b for a, b in zip(model, baseline, strict=True))
    if not any(map(math.isfinite, baseline)):
        return Against(difference, "undefined")
    ahead, low = (difference.mean, difference.low) if best == "highest" else (-difference.mean, -difference.high)
    if lost or not ahead > 0:
        return Against(difference, "not beaten")
    return Against(difference, "beaten" if low > 0 else "unsure")


def _foremost(
    rows: Mapping[str, Mapping[str, Sequence[float]]], measure: Measure, methods: Sequence[str]
) -> tuple[str, ...]:
    """Return the methods that share the best mean over patients (of errors with a sign: of their size)."""
    goodness = {}
    for method in methods:
        values = rows[method][measure.name]
        mean = finite_mean(map(abs, values) if measure.best == "nearest 0" else values)
        if not math.isnan(mean):
            goodness[method] = mean if measure.best == "highest" else -mean
    return tuple(method for method, good in goodness.items() if good == max(goodness.values()))


def listed(names: Sequence[str]) -> str:
    """Return names as a person lists them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
