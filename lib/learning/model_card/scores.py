"""How a model and the trivial predictors did on the same patients, kept so that it can be judged and compared later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib.metrics.agreement import bootstrap_mean
from lib.metrics.baseline_comparison import Standing, not_judged, stand
from lib.metrics.criteria import HU_SHARE, METHODS, STANDING_MEASURES
from lib.metrics.verdict import judge_patients

Figures = Mapping[str, Mapping[str, float | None]]  # by method, by measure; None where undefined
NAMES = (*(measure.name for measure in STANDING_MEASURES), HU_SHARE)


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
    table: Figures
    intervals: Mapping[str, Mapping[str, Mapping[str, float | int | None]]] = field(default_factory=dict)
    by_patient: Mapping[str, Figures] = field(default_factory=dict)

    def standing(self, *, on_whom: str) -> Standing:
        """Return how the model stands beside the trivial predictors.

        Args:
            on_whom: Whose figures these are, such as `5 validation patients`.
        """
        if "model" not in self.table:
            return not_judged("there are no figures of the model")
        of_patients = [(digest, _complete(figures)) for digest, figures in sorted(self.by_patient.items())]
        if of_patients:
            return stand(judge_patients(of_patients, measures=STANDING_MEASURES), on_whom=on_whom)
        # one row of means is judged as one patient is: it can lose, but not surely win
        means = judge_patients([("", _complete(self.table))], measures=STANDING_MEASURES)
        return stand(means, on_whom=on_whom, caution="its card keeps only their means, so how sure this is is unknown")


def scores_of(side: str, measured: Sequence[tuple[str, Figures]]) -> Scores:
    """Return a side's scores, given each pair's figures and its patient's digest; a patient's pairs are averaged."""
    pairs: dict[str, list[Figures]] = {}
    for digest, figures in measured:
        pairs.setdefault(digest, []).append(figures)
    by_patient = {digest: _mean_of(of) for digest, of in sorted(pairs.items())}
    intervals = {
        method: {
            name: bootstrap_mean(_number(figures[method][name]) for figures in by_patient.values()).as_json()
            for name in row
        }
        for method, row in _mean_of([*by_patient.values()]).items()
    }
    table = {method: {name: interval["mean"] for name, interval in row.items()} for method, row in intervals.items()}
    return Scores(side, len(by_patient), table, intervals, by_patient)


def _mean_of(figures: Sequence[Figures]) -> dict[str, dict[str, float | None]]:
    """Return the mean of each figure over those that have it."""
    means: dict[str, dict[str, float | None]] = {}
    for method, row in figures[0].items() if figures else ():
        values = {name: [_number(of[method][name]) for of in figures] for name in row}
        finite = {name: [value for value in of if math.isfinite(value)] for name, of in values.items()}
        means[method] = {name: sum(of) / len(of) if of else None for name, of in finite.items()}
    return means


def _complete(figures: Figures) -> dict[str, dict[str, float]]:
    """Return the figures that a standing is made of, NaN for what a card lacks."""
    return {method: {name: _number(figures.get(method, {}).get(name)) for name in NAMES} for method in METHODS}


def _number(value: float | None) -> float:
    try:
        return math.nan if value is None else float(value)
    except OverflowError:  # a whole number of JSON may be larger than any float
        return math.nan
