"""The score without patients whose real PET lies off its CT, beside the score with all of them.

A PET that lies 2 cm off is missed by 2 cm however good the model is: its error says little of the model. Which of the
two scores is worse, and by how much, is told; the verdict is over all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lib.evaluation.patient_result import PatientResult
from lib.metrics.agreement import group_by_patient
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import METHODS
from lib.metrics.image import ImageMetrics, mean_metrics


@dataclass(frozen=True)
class Aligned:
    """What is left of the pairs judged without the misaligned ones.

    Attributes:
        limit_mm: Beyond which a pair is misaligned.
        patients: How many are left.
        left_out: The misaligned pairs.
        unmeasured: How many of the pairs left could not be measured along all axes.
        means: By method; empty where nobody is left.
    """

    limit_mm: float
    patients: int
    left_out: tuple[PatientResult, ...]
    unmeasured: int
    means: dict[str, ImageMetrics]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain = {method: metrics.as_json() for method, metrics in self.means.items()}
        return {
            "max_shift_mm": self.limit_mm,
            "patients": self.patients,
            "left_out": [
                {"patient_id": pair.patient_id, "ct_series_instance_uid": pair.ct_series_instance_uid}
                for pair in self.left_out
            ],
            "not_fully_measured": self.unmeasured,
            "mean": plain.get("model"),
            "baselines": {name: plain[name] for name in BASELINE_NAMES if name in plain},
        }


def without_misaligned(judged: Iterable[PatientResult], *, limit_mm: float) -> Aligned:
    """Return the means over the pairs whose measured shift is within a limit; 0 leaves none out."""
    pairs = tuple(judged)
    off = tuple(pair for pair in pairs if pair.shift.exceeds(limit_mm))
    left = [pair for pair in pairs if not any(pair is one for one in off)]
    return Aligned(
        limit_mm=limit_mm,
        patients=len({pair.patient_id for pair in left}),
        left_out=off,
        unmeasured=sum(None in pair.shift.body_mm for pair in left),
        means={method: mean_over(left, method) for method in METHODS} if left else {},
    )


def mean_over(pairs: Iterable[PatientResult], method: str) -> ImageMetrics:
    """Return the mean of a method over patients; a patient's pairs count as one, their mean."""
    patients = group_by_patient((pair.patient_id, pair.comparison.figures[method]) for pair in pairs)
    return mean_metrics(mean_metrics(of) for of in patients.values())


def alignment_sentence(aligned: Aligned, everybody: ImageMetrics) -> str:
    """Return both scores in words: with the misaligned pairs, and without."""
    told = f"body MAE {everybody.mae_suv_body:.3f} SUV over all patients judged"
    if not aligned.limit_mm:
        return f"No limit was set: {told}."
    where = f"a PET that lies off its CT by more than {aligned.limit_mm:g} mm"
    if not aligned.left_out:
        sentence = f"None of the pairs judged has {where}: {told} stands."
    elif not aligned.means:
        sentence = f"Each of the pairs judged has {where}, so that no score without them can be told; {told}."
    else:
        names = ", ".join(sorted({pair.patient_id for pair in aligned.left_out}))
        sentence = (
            f"{names} {'has' if len(aligned.left_out) == 1 else 'have'} {where}. With: {told}. Without: "
            f"{aligned.means['model'].mae_suv_body:.3f} SUV over {aligned.patients}."
        )
    if aligned.unmeasured:
        sentence += f" Of {aligned.unmeasured} pairs the shift could not be measured along every axis."
    return sentence
