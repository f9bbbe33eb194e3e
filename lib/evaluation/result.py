"""Result of an evaluation: the metrics of each pair, and the files they are written to."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.aligned_patients import Aligned, mean_over, without_misaligned
from lib.evaluation.calibration_check import OverallTrust, overall_trust, write_trust
from lib.evaluation.clinical_metrics import REAL
from lib.evaluation.paired_comparison import Beside, set_beside
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.targets import target_sentences
from lib.files import write_text
from lib.metrics.agreement import Agreement, limits_of_agreement
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.criteria import MEASURES, METHODS
from lib.metrics.image import ImageMetrics, library_versions
from lib.metrics.verdict import Judgement, judge_patients
from lib.pairing.quality_checks.misaligned_slices import DEFAULT_LIMIT_MM


@dataclass(frozen=True)
class Evaluation:
    """All pairs of a folder under one model.

    Attributes:
        model: Name and checksum.
        patients: Every pair that could be compared.
        failed: (patient, CT series UID, reason) of the others.
        peers: Names of the programs compared with the model.
        max_shift_mm: A pair whose PET is shifted further from its CT is misaligned; 0 is no limit.
    """

    model: str
    checksum: str
    patients: tuple[PatientResult, ...]
    failed: tuple[tuple[str, str, str], ...]
    external: tuple[str, ...] = ()
    max_shift_mm: float = DEFAULT_LIMIT_MM

    @property
    def judged(self) -> tuple[PatientResult, ...]:
        """The pairs of patients the model has never seen: the only ones means are taken over."""
        return tuple(patient for patient in self.patients if not patient.side.shaped_weights)

    @cached_property
    def judgement(self) -> Judgement:
        """The model compared with the baselines over the patients never seen."""
        return judge_patients(
            [(pair.patient_id, {method: pair.figures(method) for method in METHODS}) for pair in self.judged]
        )

    @cached_property
    def beside(self) -> tuple[Beside, ...]:
        """The model compared with each peer over the patients never seen that have both."""
        return tuple(
            set_beside(
                peer,
                [
                    (pair.patient_id, {method: pair.figures(method) for method in ("model", peer)})
                    for pair in self.judged
                    if peer in pair.external
                ],
            )
            for peer in self.external
        )

    def mean(self, method: str) -> ImageMetrics:
        """Return the mean over the patients never seen; a patient's pairs count as one, their mean."""
        return mean_over(self.judged, method)

    @cached_property
    def aligned(self) -> Aligned:
        """The mean metrics without misaligned pairs."""
        return without_misaligned(self.judged, limit_mm=self.max_shift_mm)

    def body_level(self) -> Agreement:
        """Return the agreement of the body's mean SUV, synthetic - real, over the judged pairs."""
        levels = [pair.reading.body_mean_suv for pair in self.judged]
        return limits_of_agreement(
            np.array([level["model"] for level in levels]), np.array([level[REAL] for level in levels])
        )

    def trust(self) -> OverallTrust | None:
        """Return how well the expected errors of the model card hold over the patients never seen; None for no map."""
        return overall_trust([(pair.patient_id, pair.trust) for pair in self.judged])

    def as_json(self) -> dict[str, Any]:
        """Return the contract of `evaluate --json`."""
        trust = self.trust()
        return {
            "model": {"name": self.model, "sha256": self.checksum},
            "patients": [patient.as_json() for patient in self.patients],
            "judged_patients": self.judgement.patients,
            "mean": self.mean("model").as_json(),
            "baselines": {name: self.mean(name).as_json() for name in BASELINE_NAMES},
            **self.judgement.as_json(),
            "aligned": self.aligned.as_json(),
            "targets": list(target_sentences(self.judgement)),
            "beside": {beside.peer: beside.as_json() for beside in self.beside},
            "body_mean_suv_agreement": self.body_level().as_json(),
            "uncertainty": None if trust is None else trust.as_json(),
            "failed": [
                dict(zip(("patient_id", "ct_series_instance_uid", "reason"), f, strict=True)) for f in self.failed
            ],
            "versions": library_versions(),
        }


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write `evaluation.json`, `patients.csv` (a line for each pair and method) and `means.csv` (with confidence).

    Where the model card has expected errors, `uncertainty.csv` says how well they hold.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation.json", json.dumps(evaluation.as_json(), indent=1, allow_nan=False))
    _write_patients(evaluation, out / "patients.csv")
    _write_means(evaluation.judgement, out / "means.csv")
    write_trust([(pair.patient_id, pair.seen, pair.trust) for pair in evaluation.patients], out)


def _write_patients(evaluation: Evaluation, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = list(evaluation.patients[0].figures("model"))
        writer.writerow(["patient_id", "seen", "method", *names])
        for pair in evaluation.patients:
            for method in (*METHODS, *pair.external):
                figures = pair.figures(method)
                writer.writerow([pair.patient_id, pair.seen, method, *(_cell(figures[name]) for name in names)])


def _write_means(judgement: Judgement, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["measure", "method", "mean", "low", "high", "patients", "model_minus_method", "outcome"])
        for measure in MEASURES:
            for method in METHODS:
                interval = judgement.intervals[method][measure.name]
                row = [_cell(interval.mean), _cell(interval.low), _cell(interval.high), interval.count]
                against = judgement.against[method][measure.name] if method != "model" else None
                compared = [_cell(against.difference.mean), against.outcome] if against else ["", ""]
                writer.writerow([measure.name, method, *row, *compared])


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""
