"""Does a model beat the trivial predictors? Metric by metric, over patients, with how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.measures.agreement import Interval, bootstrap_mean
from lib.measures.baselines import BASELINE_NAMES

Best = Literal["lowest", "highest", "nearest 0"]
Outcome = Literal["beaten", "unsure", "not beaten", "undefined"]
METHODS = ("model", *BASELINE_NAMES)
WORDS = {
    "model": "the model",
    "zero": "zero: a black image",
    "constant": "constant: one SUV in the body",
    "hu_mean": "hu_mean: mean SUV of each HU",
    "hu_median": "hu_median: median SUV of each HU",
}


@dataclass(frozen=True)
class Measure:
    """A figure that patients are compared by: its name, its words, and which value is best."""

    name: str
    words: str
    best: Best


MEASURES = (
    Measure("mae_suv_body", "MAE [SUV]", "lowest"),
    Measure("psnr_db_body", "PSNR [dB]", "highest"),
    Measure("ssim_body", "SSIM", "highest"),
    Measure("ms_ssim_body", "MS-SSIM", "highest"),
    Measure("vif_body", "VIF", "highest"),
    Measure("mse_body", "MSE [SUV²]", "lowest"),
    Measure("correlation_body", "correlation", "highest"),
    Measure("bias_suv_body", "bias [SUV]", "nearest 0"),
    Measure("mae_suv", "MAE [SUV]", "lowest"),
    Measure("psnr_db", "PSNR [dB]", "highest"),
    Measure("ssim", "SSIM", "highest"),
    Measure("ms_ssim", "MS-SSIM", "highest"),
    Measure("vif", "VIF", "highest"),
    Measure("mse", "MSE [SUV²]", "lowest"),
    Measure("tumour_suv_mean_error", "SUVmean error", "nearest 0"),
    Measure("tumour_suv_max_error", "SUVmax error", "nearest 0"),
    Measure("tumour_suv_peak_error", "SUVpeak error", "nearest 0"),
    Measure("hot_sensitivity", "hot voxels found", "highest"),
    Measure("hot_false_share", "falsely shown", "lowest"),
    Measure("hot_overlap", "hot voxels' overlap (Dice)", "highest"),
)
KEY_MEASURE = "mae_suv_body"  # what the verdict's sentence is about: TARGETS calls it the hardest to beat
Figures = Mapping[str, Mapping[str, float]]  # by method, by measure: of one pair


@dataclass(frozen=True)
class Against:
    """The model beside one baseline in one measure.

    Attributes:
        difference: Model - baseline over the patients that have both; of errors with a sign, of their size.
        outcome: `beaten` where the whole interval is on the model's side; `unsure` where only the mean is, or one
            patient gives no interval; `undefined` where the baseline has no value.
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
        intervals: Mean and confidence by method and measure.
        against: By baseline and measure.
        strongest: By measure: the baseline with the best mean; none where no baseline has a value.
    """

    patients: int
    intervals: Mapping[str, Mapping[str, Interval]]
    against: Mapping[str, Mapping[str, Against]]
    strongest: Mapping[str, str]

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
            "strongest_baseline": dict(self.strongest),
            "not_beaten": {measure.name: list(self.not_beaten(measure.name)) for measure in MEASURES},
            "verdict": {"measure": KEY_MEASURE, "sentence": verdict_sentence(self)},
        }


def judge_patients(pairs: Sequence[tuple[str, Figures]]) -> Judgement:
    """Return the judgement over patients, given each pair and whose it is; pairs of one patient count as their mean."""
    patients: dict[str, list[Figures]] = {}
    for patient_id, figures in pairs:
        patients.setdefault(patient_id, []).append(figures)
    rows = {
        method: {m.name: [_of_patient(of, method, m.name) for of in patients.values()] for m in MEASURES}
        for method in METHODS
    }
    intervals = {method: {name: bootstrap_mean(values) for name, values in of.items()} for method, of in rows.items()}
    against: dict[str, dict[str, Against]] = {
        name: {m.name: _against(rows["model"][m.name], rows[name][m.name], m.best) for m in MEASURES}
        for name in BASELINE_NAMES
    }
    strongest = {m.name: name for m in MEASURES if (name := _strongest(rows, m))}
    return Judgement(len(patients), intervals, against, strongest)


def verdict_sentence(judgement: Judgement) -> str:
    """Return in one or two sentences which baselines the model beats inside the body."""
    beaten = judgement.outcomes(KEY_MEASURE, "beaten")
    unsure = judgement.outcomes(KEY_MEASURE, "unsure")
    lost = judgement.outcomes(KEY_MEASURE, "not beaten")
    clauses = []
    if lost:
        clauses.append(f"does not beat {_listed(lost)}")
    if unsure:
        clauses.append(f"is ahead of {_listed(unsure)}, but not surely")
    if beaten:
        clauses.append(f"beats {_listed(beaten)}")
    strongest = judgement.strongest.get(KEY_MEASURE)
    if strongest is None or not clauses:
        return "There is nothing to judge by: no voxel inside a body was measured."
    model = judgement.intervals["model"][KEY_MEASURE].mean
    other = judgement.intervals[strongest][KEY_MEASURE].mean
    who = "1 patient" if judgement.patients == 1 else f"{judgement.patients} patients"
    difference = judgement.against[strongest][KEY_MEASURE].difference
    sure = (
        "one patient gives no confidence interval"
        if math.isnan(difference.low)
        else f"difference {difference.mean:+.3f}, 95 % confidence {difference.low:+.3f} to {difference.high:+.3f}"
    )
    lesson = " It has learned no more than a lookup table." if "hu_median" in lost or "hu_mean" in lost else ""
    return (
        f"The model {_joined(clauses)}: its mean absolute error inside the body is {model:.3f} SUV, that of the "
        f"strongest trivial predictor, {strongest}, {other:.3f} ({sure}; {who} it has never seen).{lesson}"
    )


def _of_patient(pairs: Sequence[Figures], method: str, name: str) -> float:
    values = [value for figures in pairs if math.isfinite(value := figures[method][name])]
    return sum(values) / len(values) if values else math.nan


def _against(model: Sequence[float], baseline: Sequence[float], best: Best) -> Against:
    if best == "nearest 0":
        model, baseline = [abs(value) for value in model], [abs(value) for value in baseline]
    difference = bootstrap_mean(a - b for a, b in zip(model, baseline, strict=True))
    if not any(map(math.isfinite, baseline)):
        return Against(difference, "undefined")
    ahead, low = (difference.mean, difference.low) if best == "highest" else (-difference.mean, -difference.high)
    if not ahead > 0:
        return Against(difference, "not beaten")
    return Against(difference, "beaten" if low > 0 else "unsure")


def _strongest(rows: Mapping[str, Mapping[str, Sequence[float]]], measure: Measure) -> str | None:
    def badness(name: str) -> float:
        """Return a number that is lowest for the best."""
        values = rows[name][measure.name]
        return bootstrap_mean(-v if measure.best == "highest" else abs(v) for v in values).mean

    defined = {name: value for name in BASELINE_NAMES if not math.isnan(value := badness(name))}
    return min(defined, key=defined.__getitem__) if defined else None


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _joined(clauses: Sequence[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
