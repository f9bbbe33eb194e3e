"""The score of a model with and without patients whose real PET is misaligned with the CT.

A PET that is misaligned by 2 cm gives a large error however good the model is, so that error says little about the
model. Both scores are reported; the verdict uses all patients.
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
class AlignedSubset:
    """The evaluated pairs without the misaligned ones.

    Attributes:
        limit_mm: Largest shift of an aligned pair; 0 for no limit.
        patients: Number of remaining patients.
        excluded: The misaligned pairs.
        unmeasured: Number of remaining pairs whose shift could not be measured along every axis.
        means: By method; empty where no patient remains.
    """

    limit_mm: float
    patients: int
    excluded: tuple[PatientResult, ...]
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
                for pair in self.excluded
            ],
            "not_fully_measured": self.unmeasured,
            "mean": plain.get("model"),
            "baselines": {name: plain[name] for name in BASELINE_NAMES if name in plain},
        }


def exclude_misaligned(judged: Iterable[PatientResult], *, limit_mm: float) -> AlignedSubset:
    """Return the means over the pairs whose measured shift is within a limit; 0 excludes none."""
    pairs = tuple(judged)
    excluded = tuple(pair for pair in pairs if pair.shift.exceeds(limit_mm))
    remaining = [pair for pair in pairs if not any(pair is one for one in excluded)]
    return AlignedSubset(
        limit_mm=limit_mm,
        patients=len({pair.patient_id for pair in remaining}),
        excluded=excluded,
        unmeasured=sum(None in pair.shift.body_mm for pair in remaining),
        means={method: mean_over(remaining, method) for method in METHODS} if remaining else {},
    )


def mean_over(pairs: Iterable[PatientResult], method: str) -> ImageMetrics:
    """Return the mean of a method over patients; a patient's pairs count as one, their mean."""
    patients = group_by_patient((pair.patient_id, pair.comparison.metrics[method]) for pair in pairs)
    return mean_metrics(mean_metrics(metrics) for metrics in patients.values())


def alignment_sentence(aligned: AlignedSubset, all_patients: ImageMetrics) -> str:
    """Return the scores with and without the misaligned pairs, as text."""
    score = f"body MAE {all_patients.mae_suv_body:.3f} SUV over all evaluated patients"
    if not aligned.limit_mm:
        return f"No limit on the shift between PET and CT was set: {score}."
    shifted = f"shifted from the CT by more than {aligned.limit_mm:g} mm"
    if not aligned.excluded:
        sentence = f"No evaluated PET is {shifted}: {score}."
    elif not aligned.means:
        sentence = f"Every evaluated PET is {shifted}, so there is no score without misaligned pairs; {score}."
    else:
        names = ", ".join(sorted({pair.patient_id for pair in aligned.excluded}))
        sentence = (
            f"PETs {shifted}: {names}. With them: {score}. Without them: {aligned.means['model'].mae_suv_body:.3f} SUV "
            f"over {aligned.patients} {'patient' if aligned.patients == 1 else 'patients'}."
        )
    if aligned.unmeasured:
        pairs = "1 pair" if aligned.unmeasured == 1 else f"{aligned.unmeasured} pairs"
        sentence += f" The shift of {pairs} could not be measured along every axis."
    return sentence
