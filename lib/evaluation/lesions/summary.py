"""Lesions over patients: found, missed and fabricated per patient, and the free-response curve."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.evaluation.lesions.components import MIN_LESION_ML, RELATIVE_THRESHOLD
from lib.evaluation.lesions.detection import CurvePoint, pooled_curve
from lib.evaluation.lesions.patient import MethodLesions
from lib.metrics.agreement import group_by_patient
from lib.metrics.criteria import LESION_DEFINITIONS
from lib.metrics.uptake import HOT_SUV
from lib.metrics.verdict import Judgement

LESIONS_FILE = "lesions.csv"


@dataclass(frozen=True)
class LesionSummary:
    """The lesions over the unseen patients.

    Attributes:
        sentences: What the model finds, misses and fabricates per patient, by definition of a lesion.
        curves: Free-response curve of the model, the lookup tables of HU and external programs; an external program's
            is over the patients that have its prediction.
    """

    sentences: Mapping[str, str]
    curves: Mapping[str, tuple[CurvePoint, ...]]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "threshold_suv": HOT_SUV,
            "relative_threshold": RELATIVE_THRESHOLD,
            "min_volume_ml": MIN_LESION_ML,
            "sentences": dict(self.sentences),
            "free_response": {name: [point.as_json() for point in curve] for name, curve in self.curves.items()},
        }


def summarize_lesions(pairs: Sequence[tuple[str, Mapping[str, MethodLesions]]], judgement: Judgement) -> LesionSummary:
    """Return the summary over (patient, lesions by method) pairs; pairs of one patient count as their mean."""
    methods = dict.fromkeys(name for _, lesions in pairs for name, method in lesions.items() if method.curve)
    curves = {}
    for name in methods:
        patients = group_by_patient((patient, lesions[name]) for patient, lesions in pairs if name in lesions)
        curves[name] = pooled_curve(
            [
                [(len(found.fixed.found) + len(found.fixed.missed), found.curve) for found in of_patient]
                for of_patient in patients.values()
            ]
        )
    return LesionSummary({name: lesion_sentence(judgement, name) for name in LESION_DEFINITIONS}, curves)


def lesion_sentence(judgement: Judgement, definition: str) -> str:
    """Return what the model finds, misses and fabricates per patient, as text.

    Args:
        judgement: Of the model.
        definition: Of a lesion, a key of `LESION_DEFINITIONS`.
    """
    found, missed, fabricated, fabricated_ml = (
        judgement.intervals["model"][f"lesions_{name}"].mean
        for name in (f"found_{definition}", f"missed_{definition}", f"fabricated_{definition}",
                     f"fabricated_{definition}_ml")
    )  # fmt: skip
    if math.isnan(found):
        return "No patient was evaluated."
    share = f" ({100 * found / (found + missed):.0f} %)" if found + missed else ""
    return (
        f"Of {found + missed:.1f} real lesions per patient, the synthetic PET shows {found:.1f}{share}, misses "
        f"{missed:.1f}, and fabricates {fabricated:.1f} more ({fabricated_ml:.0f} mL)."
    )


def write_lesions(rows: Sequence[tuple[str, str, MethodLesions]], out: Path) -> None:
    """Write `lesions.csv`, one line per lesion of the real PET or fabricated by the model.

    Args:
        rows: (patient, side of the split, lesions of the model) of each pair.
        out: Folder of the evaluation.
    """
    with (out / LESIONS_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "seen", "definition", "outcome", "volume_ml", "suv_max"])
        for patient_id, seen, lesions in rows:
            for definition in LESION_DEFINITIONS:
                for outcome, listed in vars(getattr(lesions, definition)).items():
                    for lesion in listed:
                        writer.writerow([patient_id, seen, definition, outcome, lesion.volume_ml, lesion.suv_max])
