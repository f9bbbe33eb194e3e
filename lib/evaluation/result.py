"""The result of an evaluation: the metrics of each pair, and the files that they are written to."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lib.evaluation.aligned_patients import AlignedSubset, exclude_misaligned, mean_over
from lib.evaluation.calibration_check import MeanCalibrationCheck, mean_calibration_check, write_calibration_check
from lib.evaluation.clinical_metrics import REAL
from lib.evaluation.interval_coverage import CoverageRow, coverage_as_json, interval_coverage
from lib.evaluation.lesions.summary import LesionSummary, summarize_lesions, write_lesions
from lib.evaluation.organ_metrics import OrganBias, organ_biases, write_organs
from lib.evaluation.paired_comparison import ExternalComparison, compare_with_external
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.targets import target_sentences
from lib.files import write_text
from lib.metrics.agreement import Agreement, limits_of_agreement
from lib.metrics.baselines import ORGAN_MEDIAN
from lib.metrics.criteria import METRICS
from lib.metrics.image import ImageMetrics, library_versions
from lib.metrics.verdict import Judgement, judge_patients
from lib.pairing.quality_checks.misaligned_slices import DEFAULT_LIMIT_MM
from lib.pairing.split import Side


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one model on all pairs of a folder.

    Attributes:
        model, checksum: Of the model.
        patients: The results of all pairs that could be compared.
        failed: (patient, CT series UID, reason) of the others.
        external: Names of the external programs that the model is compared with.
        max_shift_mm: Largest shift between PET and CT of an aligned pair; 0 for no limit.
    """

    model: str
    checksum: str
    patients: tuple[PatientResult, ...]
    failed: tuple[tuple[str, str, str], ...]
    external: tuple[str, ...] = ()
    max_shift_mm: float = DEFAULT_LIMIT_MM

    @property
    def judged(self) -> tuple[PatientResult, ...]:
        """The pairs of patients that the model has not seen; means are over these only."""
        return tuple(patient for patient in self.patients if not patient.side.shaped_weights)

    @property
    def out_of_fold(self) -> str:
        """How training patients were evaluated, as a sentence; empty where the model was trained on none of them."""
        patients = self.judgement.out_of_fold
        if not patients:
            return ""
        return (
            f"{patients} of these patients trained the ensemble; each was evaluated with those networks that were "
            "not trained on them."
        )

    @cached_property
    def judgement(self) -> Judgement:
        """The model compared with the baselines over the unseen patients."""
        return judge_patients(
            [(pair.patient_id, {method: pair.metrics(method) for method in pair.methods}) for pair in self.judged],
            out_of_fold=[pair.patient_id for pair in self.judged if pair.side is Side.OUT_OF_FOLD],
        )

    @cached_property
    def external_comparisons(self) -> tuple[ExternalComparison, ...]:
        """The model compared with each external program over the unseen patients that have both."""
        return tuple(
            compare_with_external(
                program,
                [
                    (pair.patient_id, {method: pair.metrics(method) for method in ("model", program)})
                    for pair in self.judged
                    if program in pair.external
                ],
            )
            for program in self.external
        )

    @cached_property
    def organs(self) -> dict[str, OrganBias]:
        """The bias of each method in each organ over the unseen patients; empty without label maps."""
        methods = ("model", *self.judgement.baselines, ORGAN_MEDIAN, *self.external)
        return organ_biases([(pair.patient_id, pair.organs) for pair in self.judged], tuple(dict.fromkeys(methods)))

    @cached_property
    def organ_median(self) -> ExternalComparison:
        """The model compared with the baseline `organ_median` over the unseen patients that have it."""
        pairs = [pair for pair in self.judged if ORGAN_MEDIAN in pair.methods]
        rows = [(pair.patient_id, {name: pair.metrics(name) for name in ("model", ORGAN_MEDIAN)}) for pair in pairs]
        return compare_with_external(ORGAN_MEDIAN, rows)

    def mean(self, method: str) -> ImageMetrics:
        """Return a method's mean over the unseen patients; a patient's pairs count as one, their mean."""
        return mean_over(self.judged, method)

    @cached_property
    def aligned(self) -> AlignedSubset:
        """The unseen patients without misaligned pairs."""
        return exclude_misaligned(self.judged, limit_mm=self.max_shift_mm)

    def body_level(self) -> Agreement:
        """Return the agreement of the body's mean SUV, synthetic - real, over the pairs of unseen patients."""
        levels = [pair.clinical.body_mean_suv for pair in self.judged]
        return limits_of_agreement(
            np.array([level["model"] for level in levels]), np.array([level[REAL] for level in levels])
        )

    @cached_property
    def calibration_check(self) -> MeanCalibrationCheck | None:
        """Expected against observed errors over the unseen patients; None without a calibration."""
        return mean_calibration_check([(pair.patient_id, pair.calibration_check) for pair in self.judged])

    @cached_property
    def lesions(self) -> LesionSummary:
        """The lesions over the unseen patients."""
        return summarize_lesions([(pair.patient_id, pair.lesions) for pair in self.judged], self.judgement)

    @cached_property
    def interval_coverage(self) -> tuple[CoverageRow, ...]:
        """Coverage of the model's intervals over the unseen patients; empty without intervals."""
        return interval_coverage([(pair.patient_id, pair.interval_shares) for pair in self.judged])

    def as_json(self) -> dict[str, Any]:
        """Return the JSON of `evaluate --json`."""
        return {
            "model": {"name": self.model, "sha256": self.checksum},
            "patients": [patient.as_json() for patient in self.patients],
            "judged_patients": self.judgement.patients,
            "out_of_fold": self.out_of_fold,
            "mean": self.mean("model").as_json(),
            "baselines": {name: self.mean(name).as_json() for name in self.judgement.baselines},
            **self.judgement.as_json(),
            "aligned": self.aligned.as_json(),
            "targets": list(target_sentences(self.judgement)),
            "beside": {other.program: other.as_json() for other in self.external_comparisons},
            "lesions": self.lesions.as_json(),
            "body_mean_suv_agreement": self.body_level().as_json(),
            "organs": {name: organ.as_json() for name, organ in self.organs.items()},
            "organ_median": self.organ_median.as_json() if self.organ_median.patients else None,
            "uncertainty": None if self.calibration_check is None else self.calibration_check.as_json(),
            "interval_coverage": coverage_as_json(self.interval_coverage),
            "failed": [
                dict(zip(("patient_id", "ct_series_instance_uid", "reason"), f, strict=True)) for f in self.failed
            ],
            "versions": library_versions(),
        }


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write `evaluation.json`, `patients.csv` (per pair and method) and `means.csv` (with confidence intervals).

    Also write `lesions.csv`, see `write_lesions`; with a calibration `uncertainty.csv`, see `write_calibration_check`;
    with organs `organs.csv`.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation.json", json.dumps(evaluation.as_json(), indent=1, allow_nan=False))
    _write_patients(evaluation, out / "patients.csv")
    _write_means(evaluation.judgement, out / "means.csv")
    write_lesions([(pair.patient_id, pair.seen, pair.lesions["model"]) for pair in evaluation.patients], out)
    write_organs(evaluation.organs, out)
    write_calibration_check([(pair.patient_id, pair.seen, pair.calibration_check) for pair in evaluation.patients], out)


def _write_patients(evaluation: Evaluation, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = list(evaluation.patients[0].metrics("model"))
        writer.writerow(["patient_id", "seen", "method", *names])
        for pair in evaluation.patients:
            for method in (*pair.methods, *pair.external):
                metrics = pair.metrics(method)
                writer.writerow([pair.patient_id, pair.seen, method, *(_cell(metrics[name]) for name in names)])


def _write_means(judgement: Judgement, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["measure", "method", "mean", "low", "high", "patients", "model_minus_method", "outcome"])
        for metric in METRICS:
            for method in judgement.methods:
                interval = judgement.intervals[method][metric.name]
                row = [_cell(interval.mean), _cell(interval.low), _cell(interval.high), interval.count]
                against = judgement.against[method][metric.name] if method != "model" else None
                outcome = [_cell(against.difference.mean), against.outcome] if against else ["", ""]
                writer.writerow([metric.name, method, *row, *outcome])


def _cell(value: float) -> float | str:
    return value if math.isfinite(value) else ""
