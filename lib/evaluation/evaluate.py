"""A model beside trivial predictors on real pairs, patient by patient."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lib.dicom.read import read_ct, read_pet
from lib.errors import InputError, PairingError
from lib.evaluation.compare import Comparison, align, compare
from lib.evaluation.picture import draw_comparison
from lib.learning.card import ModelCard, patient_digest
from lib.measures.baselines import BASELINE_NAMES
from lib.measures.image import ImageMetrics, library_versions, mean_metrics
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepare import pair_id
from lib.pairing.prepared import write_text
from lib.synthesis.synthesizer import Synthesizer
from lib.types import Progress, no_progress

Seen = Literal["train", "validation", "no"]


@dataclass(frozen=True)
class PatientResult:
    """One pair: whose, whether the model has seen the patient, and the figures by method."""

    patient_id: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    seen: Seen
    comparison: Comparison


@dataclass(frozen=True)
class Evaluation:
    """All pairs of a folder under one model.

    Attributes:
        model: Name and checksum.
        patients: Every pair that could be compared.
        failed: (patient, CT series UID, reason) of the others.
    """

    model: str
    checksum: str
    patients: tuple[PatientResult, ...]
    failed: tuple[tuple[str, str, str], ...]

    @property
    def judged(self) -> tuple[PatientResult, ...]:
        """The patients the model has never seen: the only ones means are taken over."""
        return tuple(patient for patient in self.patients if patient.seen == "no")

    def mean(self, method: str) -> ImageMetrics:
        """Return the mean over the patients never seen."""
        return mean_metrics(patient.comparison.figures[method] for patient in self.judged)

    def as_json(self) -> dict[str, Any]:
        """Return the contract of `evaluate --json`."""
        return {
            "model": {"name": self.model, "sha256": self.checksum},
            "patients": [
                {
                    "patient_id": patient.patient_id,
                    "ct_series_instance_uid": patient.ct_series_instance_uid,
                    "pet_series_instance_uid": patient.pet_series_instance_uid,
                    "seen": patient.seen,
                    **patient.comparison.figures["model"].as_json(),
                    "baselines": {name: patient.comparison.figures[name].as_json() for name in BASELINE_NAMES},
                }
                for patient in self.patients
            ],
            "judged_patients": len(self.judged),
            "mean": self.mean("model").as_json(),
            "baselines": {name: self.mean(name).as_json() for name in BASELINE_NAMES},
            "failed": [
                dict(zip(("patient_id", "ct_series_instance_uid", "reason"), f, strict=True)) for f in self.failed
            ],
            "versions": library_versions(),
        }


def evaluate_pairs(
    pairs: Sequence[PairedSeries],
    synthesizer: Synthesizer,
    out: Path,
    *,
    note: str = "",
    progress: Progress = no_progress,
) -> Evaluation:
    """Return the figures of every pair; write `evaluation.json`, `patients.csv` and one picture a patient to `out`.

    A pair that fails is reported with its reason and the rest goes on. Means are over patients that the model was
    neither trained nor chosen on.

    Raises:
        PairingError: There is no such patient among the pairs.
    """
    if all(seen_by(synthesizer.card, paired.pair.ct.patient_id) != "no" for paired in pairs):
        raise _nothing_to_prove(len(pairs))  # said before the work, not after it
    results: list[PatientResult] = []
    failed: list[tuple[str, str, str]] = []
    for number, paired in enumerate(pairs):
        patient_id, ct_uid = paired.pair.ct.patient_id, paired.pair.ct.uid
        progress(number, len(pairs), f"evaluating {patient_id}")
        try:
            results.append(_evaluate(paired, synthesizer, out, note))
        except InputError as error:
            failed.append((patient_id, ct_uid, str(error)))
    progress(len(pairs), len(pairs), "evaluated")
    evaluation = Evaluation(synthesizer.card.name, synthesizer.checksum, tuple(results), tuple(failed))
    if not evaluation.judged:
        reasons = "".join(f"; {ct_uid}: {reason}" for _, ct_uid, reason in failed)
        raise _nothing_to_prove(len(pairs), reasons)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "evaluation.json", json.dumps(evaluation.as_json(), indent=1))
    _write_csv(evaluation, out / "patients.csv")
    return evaluation


def seen_by(card: ModelCard, patient_id: str) -> Seen:
    """Return on which side of its training the model saw a patient."""
    digest = patient_digest(patient_id)
    if digest in card.training.patients:
        return "train"
    return "validation" if digest in card.training.validation_patients else "no"


def _evaluate(paired: PairedSeries, synthesizer: Synthesizer, out: Path, note: str) -> PatientResult:
    card = synthesizer.card
    ct, pet = read_ct(paired.pair.ct), read_pet(paired.pair.pet)
    volumes = align(synthesizer.apply(ct), ct=ct, pet=pet, grid=card.recipe.grid)
    patient_id = paired.pair.ct.patient_id
    title = f"{patient_id}, model {card.name} {synthesizer.checksum[:8]}"
    # hashes: two pairs of one patient stay apart, and a patient ID cannot name a path
    picture = out / f"{patient_digest(patient_id)}-{pair_id(paired.pair)}.png"
    draw_comparison(volumes, picture, title=title, note=note)
    return PatientResult(
        patient_id=patient_id,
        ct_series_instance_uid=paired.pair.ct.uid,
        pet_series_instance_uid=paired.pair.pet.uid,
        seen=seen_by(card, patient_id),
        comparison=compare(volumes, card, device=synthesizer.device),
    )


def _nothing_to_prove(pairs: int, reasons: str = "") -> PairingError:
    return PairingError(
        f"none of the {pairs} pairs can be used and is of a patient that the model has neither been trained nor chosen "
        f"on, so nothing would be proved; give studies of other patients{reasons}"
    )


def _write_csv(evaluation: Evaluation, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = list(evaluation.patients[0].comparison.figures["model"].as_json())
        writer.writerow(["patient_id", "seen", "method", *names])
        for patient in evaluation.patients:
            for method, metrics in patient.comparison.as_json().items():
                writer.writerow([patient.patient_id, patient.seen, method, *(metrics[name] for name in names)])
