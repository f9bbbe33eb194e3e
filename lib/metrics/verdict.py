"""Whether a model beats the baselines, metric by metric, with confidence intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.metrics.agreement import Interval, bootstrap_mean, finite_mean, group_by_patient
from lib.metrics.baselines import BASELINE_NAMES, ORGAN_MEDIAN
from lib.metrics.caveats import Caveat, find_caveats
from lib.metrics.criteria import (
    HU_SHARE,
    KEY_METRIC,
    LOOKUPS,
    METHOD_LABELS,
    METRICS,
    Best,
    Metric,
    comparable,
)
from lib.metrics.hu_lookup import LOOKUP_SHARE

Outcome = Literal["beaten", "unsure", "not beaten", "undefined"]
Metrics = Mapping[str, float]  # by name, of one volume; NaN where undefined
NUMBERS = {4: "four", 5: "five"}
MethodMetrics = Mapping[str, Metrics]  # by method, of one pair


@dataclass(frozen=True)
class BaselineDifference:
    """The model compared with one baseline in one metric.

    Attributes:
        difference: Model - baseline over the patients that have both; signed errors and ratios by their
            distance from 0 or 1.
        outcome: `beaten` where the full interval favours the model; `unsure` where only the mean does, or one patient
            gives no interval; `undefined` where the baseline has no value. A model that acts as a lookup table of HU
            never beats one: its lead would come from interpolation.
    """

    difference: Interval
    outcome: Outcome

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self.difference.as_json(), "outcome": self.outcome}


@dataclass(frozen=True)
class Judgement:
    """The metrics of a model and of the baselines over patients.

    Attributes:
        patients: Number of patients.
        hu_share: Share of the variance of the model's PET that HU explains.
        intervals: Mean and confidence interval by method and metric.
        against: Difference from each baseline, by baseline and metric.
        strongest: The baseline with the best mean, by metric; none where no baseline has a value.
        best: The method with the best mean, by metric; none where several share it.
        out_of_fold: Number of patients who trained some networks of the ensemble and were judged by the one that they
            did not train; the others are unseen.
    """

    patients: int
    hu_share: Interval
    intervals: Mapping[str, Mapping[str, Interval]]
    against: Mapping[str, Mapping[str, BaselineDifference]]
    strongest: Mapping[str, str]
    best: Mapping[str, str]
    out_of_fold: int = 0

    @property
    def is_lookup(self) -> bool:
        """Whether the model acts as a lookup table of HU."""
        return self.hu_share.mean >= LOOKUP_SHARE

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """What a reader sees at once and the key metric does not show."""
        return find_caveats(self.intervals)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines: four, and `organ_median` where it is available for every patient."""
        return tuple(self.against)

    @property
    def methods(self) -> tuple[str, ...]:
        """The model, then the baselines."""
        return ("model", *self.against)

    @property
    def all_baselines(self) -> str:
        """All baselines as text, such as `all four baselines`."""
        return f"all {NUMBERS.get(len(self.against), len(self.against))} baselines"

    def outcomes(self, metric: str, *selected: Outcome) -> tuple[str, ...]:
        """Return the baselines with one of the selected outcomes in a metric."""
        return tuple(name for name, row in self.against.items() if row[metric].outcome in selected)

    def not_beaten(self, metric: str) -> tuple[str, ...]:
        """Return the baselines that the model does not beat significantly in a metric."""
        return self.outcomes(metric, "unsure", "not beaten")

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
            "verdict": {
                "measure": KEY_METRIC,
                "sentence": verdict_sentence(self),
                "caveats": [caveat.as_json() for caveat in self.caveats],
            },
        }


def judge_patients(
    pairs: Sequence[tuple[str, MethodMetrics]],
    *,
    metrics: Sequence[Metric] = METRICS,
    out_of_fold: Collection[str] = (),
) -> Judgement:
    """Return the judgement over (patient, metrics by method) pairs; pairs of one patient count as their mean.

    The baselines include `organ_median` where every pair has it.

    Args:
        pairs: Of any patients.
        metrics: To judge by.
        out_of_fold: The patients judged out of fold.
    """
    patients = group_by_patient(pairs)
    has_organs = bool(pairs) and all(ORGAN_MEDIAN in of_pair for _, of_pair in pairs)
    baselines = (*BASELINE_NAMES, ORGAN_MEDIAN) if has_organs else BASELINE_NAMES
    methods = ("model", *baselines)
    rows = {
        method: {m.name: [mean_of_pairs(pairs, method, m.name) for pairs in patients.values()] for m in metrics}
        for method in methods
    }
    share = bootstrap_mean(mean_of_pairs(pairs, "model", HU_SHARE) for pairs in patients.values())
    is_lookup = share.mean >= LOOKUP_SHARE
    intervals = {method: {name: bootstrap_mean(values) for name, values in row.items()} for method, row in rows.items()}
    against: dict[str, dict[str, BaselineDifference]] = {
        name: {
            m.name: _against(rows["model"][m.name], rows[name][m.name], m.best, lost=is_lookup and name in LOOKUPS)
            for m in metrics
        }
        for name in baselines
    }
    strongest = {m.name: names[0] for m in metrics if (names := _best_methods(rows, m, baselines))}
    best = {m.name: names[0] for m in metrics if len(names := _best_methods(rows, m, methods)) == 1}
    return Judgement(
        len(patients), share, intervals, against, strongest, best, out_of_fold=len(patients.keys() & set(out_of_fold))
    )


def verdict_sentence(judgement: Judgement) -> str:
    """Return which baselines the model beats inside the body: first the result, then the numbers."""
    strongest = judgement.strongest.get(KEY_METRIC)
    if strongest is None:
        return "Nothing could be evaluated: no voxel inside a body was measured."
    lost = judgement.outcomes(KEY_METRIC, "not beaten")
    unsure = judgement.outcomes(KEY_METRIC, "unsure")
    beaten = judgement.outcomes(KEY_METRIC, "beaten")
    clauses = [f"not better than {name_baselines(judgement, lost, 'any baseline')}"] if lost else []
    clauses += [f"better than {name_baselines(judgement, beaten, judgement.all_baselines)}"] if beaten else []
    if unsure:
        names = name_baselines(judgement, unsure, judgement.all_baselines)
        clauses += [f"better than {names} on average, but not significantly"]
    difference = judgement.against[strongest][KEY_METRIC].difference
    confidence = (
        "one patient gives no confidence interval"
        if math.isnan(difference.low)
        else f"difference {difference.mean:+.3f} SUV, 95 % confidence {difference.low:+.3f} to {difference.high:+.3f}"
    )
    model, other = (judgement.intervals[method][KEY_METRIC].mean for method in ("model", strongest))
    return (
        f"{capitalize('; '.join(clauses))}; tested on {_patients(judgement)}. Body MAE {model:.3f} SUV; that of the "
        f"strongest baseline, {METHOD_LABELS[strongest]}, {other:.3f} SUV ({confidence})."
        f"{lookup_note(judgement)}{caveat_note(judgement)}"
    )


def _patients(judgement: Judgement) -> str:
    """Return how many patients were judged, and whether the model has seen them, such as `3 unseen patients`."""
    unseen = judgement.patients - judgement.out_of_fold
    plural = "" if unseen == 1 else "s"
    if not judgement.out_of_fold:
        return f"{unseen} unseen patient{plural}"
    folded = f"{judgement.out_of_fold} patient{'' if judgement.out_of_fold == 1 else 's'} out of fold"
    return f"{folded} and {unseen} unseen patient{plural}" if unseen else folded


def caveat_note(judgement: Judgement) -> str:
    """Return the caveats as a sentence, after `But:` where the model is ahead of a baseline; otherwise empty."""
    if not judgement.caveats:
        return ""
    is_ahead = bool(judgement.outcomes(KEY_METRIC, "beaten", "unsure"))
    return f" {'But' if is_ahead else 'In addition'}: {'; '.join(caveat.sentence for caveat in judgement.caveats)}."


def lookup_note(judgement: Judgement) -> str:
    """Return a note on a model that acts as a lookup table of HU, or does not beat one; otherwise an empty string."""
    if judgement.is_lookup:
        share = f"{100 * judgement.hu_share.mean:.0f} %"
        return (
            f" The model acts as a lookup table: HU alone explains {share} of the variance of its PET, so any lead "
            "over the mean or median SUV per HU comes from interpolation."
        )
    if set(LOOKUPS) & set(judgement.outcomes(KEY_METRIC, "not beaten")):
        return " The model is not better than a lookup table of HU."
    return ""


def mean_of_pairs(pairs: Sequence[MethodMetrics], method: str, name: str) -> float:
    """Return a patient's metric, the mean over the pairs for which it is finite; NaN for none."""
    return finite_mean(metrics[method].get(name, math.nan) for metrics in pairs)


def _against(model: Sequence[float], baseline: Sequence[float], best: Best, *, lost: bool) -> BaselineDifference:
    model, baseline = ([comparable(value, best) for value in values] for values in (model, baseline))
    difference = bootstrap_mean(a - b for a, b in zip(model, baseline, strict=True))
    if not any(map(math.isfinite, baseline)):
        return BaselineDifference(difference, "undefined")
    ahead, low = (difference.mean, difference.low) if best == "highest" else (-difference.mean, -difference.high)
    if lost or not ahead > 0:
        return BaselineDifference(difference, "not beaten")
    return BaselineDifference(difference, "beaten" if low > 0 else "unsure")


def _best_methods(
    rows: Mapping[str, Mapping[str, Sequence[float]]], metric: Metric, methods: Sequence[str]
) -> tuple[str, ...]:
    """Return the methods that share the best mean over patients; see `comparable`."""
    scores = {}
    for method in methods:
        mean = finite_mean(comparable(value, metric.best) for value in rows[method][metric.name])
        if not math.isnan(mean):
            scores[method] = mean if metric.best == "highest" else -mean
    return tuple(method for method, score in scores.items() if score == max(scores.values()))


def name_baselines(judgement: Judgement, names: Sequence[str], all_names: str) -> str:
    """Return baselines in words, or `all_names` for all of them."""
    return all_names if tuple(names) == judgement.baselines else join_names([METHOD_LABELS[name] for name in names])


def capitalize(sentence: str) -> str:
    """Return a sentence with a capital first letter; the others are kept."""
    return sentence[:1].upper() + sentence[1:]


def join_names(names: Sequence[str]) -> str:
    """Return names joined as in `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
