"""The model and another program on the same patients, measure by measure, with how sure the difference is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lib.metrics.agreement import Interval, bootstrap_mean, group_by_patient
from lib.metrics.criteria import MEASURES, Measure
from lib.metrics.verdict import MethodMetrics, mean_of_pairs

Ahead = Literal["model", "peer", "neither", "undefined"]
BESIDE = tuple(
    measure
    for name in ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "tumour_suv_mean_error")
    for measure in MEASURES
    if measure.name == name
)


@dataclass(frozen=True)
class Paired:
    """One measure of the model and a peer, over the patients that have both.

    Attributes:
        model, peer: Means.
        difference: Model - peer, patient by patient; of errors with a sign, of their size.
        ahead: On whose side the difference's whole interval is; `undefined` without an interval.
    """

    model: Interval
    peer: Interval
    difference: Interval
    ahead: Ahead

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        means = {name: getattr(self, name).as_json() for name in ("model", "peer", "difference")}
        return {**means, "ahead": self.ahead}


@dataclass(frozen=True)
class Beside:
    """The model beside one peer; `patients` have both."""

    peer: str
    patients: int
    metrics: Mapping[str, Paired]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        metrics = {name: paired.as_json() for name, paired in self.metrics.items()}
        return {"patients": self.patients, "sentence": beside_sentence(self), "measures": metrics}


def set_beside(peer: str, pairs: Sequence[tuple[str, MethodMetrics]]) -> Beside:
    """Return the comparison, given each pair that has both and whose it is; a patient's pairs count as their mean."""
    patients = group_by_patient(pairs)
    return Beside(peer, len(patients), {m.name: _paired(list(patients.values()), peer, m) for m in BESIDE})


def beside_sentence(beside: Beside) -> str:
    """Return who is ahead in which measure, for a person."""
    if not beside.patients:
        return f"{beside.peer}: no volume of a patient that the model has never seen."
    words = {"model": "the interval favours the model", "peer": f"the interval favours {beside.peer}"}
    clauses = []
    for side, said in words.items():
        names = [m.words.split(" [")[0] for m in BESIDE if beside.metrics[m.name].ahead == side]
        clauses += [f"{said} in {', '.join(names)}"] if names else []
    patients = "1 patient" if beside.patients == 1 else f"{beside.patients} patients"
    told = "; ".join(clauses) or "no interval tells the two apart"
    mae = beside.metrics[BESIDE[0].name]
    return (
        f"{beside.peer}, {patients}: body MAE {mae.model.mean:.3f} (model) and {mae.peer.mean:.3f} SUV "
        f"({beside.peer}); {told}."
    )


def _paired(patients: Sequence[Sequence[MethodMetrics]], peer: str, measure: Measure) -> Paired:
    both = [tuple(mean_of_pairs(pairs, method, measure.name) for method in ("model", peer)) for pairs in patients]
    both = [(ours, theirs) for ours, theirs in both if math.isfinite(ours) and math.isfinite(theirs)]
    size = abs if measure.best == "nearest 0" else float
    difference = bootstrap_mean(size(ours) - size(theirs) for ours, theirs in both)
    low, high = (difference.low, difference.high) if measure.best == "highest" else (-difference.high, -difference.low)
    ahead: Ahead = "undefined" if math.isnan(low) else "model" if low > 0 else "peer" if high < 0 else "neither"
    return Paired(
        bootstrap_mean(ours for ours, _ in both), bootstrap_mean(theirs for _, theirs in both), difference, ahead
    )
