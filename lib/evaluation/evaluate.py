"""Evaluate a model and the baselines on CT and PET pairs, patient by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lib.dicom.read.volume import read_pet
from lib.dicom.rtstruct import Contour, find_contours, read_contours
from lib.dicom.scan.open_ct import read_ct_series
from lib.dicom.scan.scan import ScanReport
from lib.errors import DicomError, InputError, PairingError
from lib.evaluation.calibration_check import check_card_calibration
from lib.evaluation.clinical_metrics import measure_clinical, tumour_of, tumour_regions
from lib.evaluation.external_predictions import (
    Competitor,
    ModelPredictions,
    predict_with_model,
    read_external_prediction,
)
from lib.evaluation.interval_coverage import interval_shares
from lib.evaluation.lesions.patient import measure_lesions
from lib.evaluation.organ_metrics import measure_organs, with_organs
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.report.html import write_report
from lib.evaluation.report.images import draw_comparison, draw_projections
from lib.evaluation.result import Evaluation, write_evaluation
from lib.evaluation.slice_metrics import AlignedVolumes, align, card_baselines, compare, predict_all_methods
from lib.imaging.volume import Volume
from lib.learning.model_card.card import patient_digest
from lib.metrics.appearance import measure_appearance
from lib.metrics.criteria import LOOKUPS
from lib.metrics.volume import measure_volume
from lib.pairing.label_maps import LabelMaps, find_label_maps
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepared_folder import pair_id
from lib.pairing.quality_checks.alignment import corrected, estimate_shift
from lib.synthesis.ensemble import Ensemble
from lib.synthesis.synthesizer import Synthesizer
from lib.types import FloatArray, Progress, SeriesPair, no_progress

__all__ = ["Evaluation", "PatientResult", "evaluate_pairs"]


def evaluate_pairs(
    pairs: Sequence[PairedSeries],
    synthesizer: Synthesizer | Ensemble,
    out: Path,
    *,
    scan: ScanReport | None = None,
    contours: Sequence[Path] = (),
    run: Path | None = None,
    external: Sequence[Competitor] = (),
    labels: Path | None = None,
    note: str = "",
    progress: Progress = no_progress,
) -> Evaluation:
    """Return the metrics of every pair, and write them to `out`.

    Writes `report.html`, `evaluation.json`, `patients.csv`, `means.csv`, `lesions.csv` and two pictures per pair. A
    pair that fails is reported with its reason, and the evaluation continues. Means are over patients that the model
    was neither trained nor validated on.

    Args:
        pairs: The pairs to evaluate.
        synthesizer: The model.
        out: Output folder, created if missing.
        scan: Source of the pairs; tumours contoured in its RT Structure Sets are measured.
        contours: Further RT Structure Sets; their tumours are measured in the CTs of their frame of reference.
        run: Folder of the model's training run, for the training curve in the report.
        external: Predictions of other programs for the same CTs, or other models. Missing or invalid ones are reported,
            and the evaluation continues.
        labels: Folder of label maps of the CTs, see `lib/pairing/label_maps.py`; missing or invalid ones are reported.
        note: Line below every picture, such as the data's attribution.
        progress: Called before each pair.

    Raises:
        PairingError: No pair is of an unseen patient, the model card has no baselines, or a file of `contours` has no
            tumour in the frame of reference of any CT.
        DicomError: A file of `contours` is damaged, or not an RT Structure Set.
    """
    if all(synthesizer.card.side_of(paired.pair.ct.patient_id).shaped_weights for paired in pairs):
        raise _no_unseen_patients(len(pairs))  # fail early
    card_baselines(synthesizer.card)  # fail early
    contours_of = partial(_contours, scan, _read_tumours(contours, pairs))
    label_maps = None if labels is None else find_label_maps(labels, [paired.pair.ct for paired in pairs])
    evaluate = partial(
        _evaluate, synthesizer=synthesizer, out=out, contours_of=contours_of, external=external, labels=label_maps,
        note=note,
    )  # fmt: skip
    results, failed = _evaluate_each(pairs, evaluate, progress)
    evaluation = Evaluation(
        synthesizer.card.name, synthesizer.checksum, results, failed,
        external=tuple(program.name for program in external),
        max_shift_mm=synthesizer.card.recipe.alignment.max_shift_mm,
    )  # fmt: skip
    if not evaluation.judged:
        reasons = "".join(f"; {ct_uid}: {reason}" for _, ct_uid, reason in failed)
        raise _no_unseen_patients(len(pairs), reasons)
    write_evaluation(evaluation, out)
    write_report(evaluation, synthesizer.card, out, run=run, note=note)
    return evaluation


def _evaluate_each(
    pairs: Sequence[PairedSeries], evaluate: Callable[[PairedSeries], PatientResult], progress: Progress
) -> tuple[tuple[PatientResult, ...], tuple[tuple[str, str, str], ...]]:
    """Return the results, and (patient ID, CT series UID, reason) of the pairs that failed."""
    results: list[PatientResult] = []
    failed: list[tuple[str, str, str]] = []
    for number, paired in enumerate(pairs):
        patient_id, ct_uid = paired.pair.ct.patient_id, paired.pair.ct.uid
        progress(number, len(pairs), f"evaluating {patient_id}")
        try:
            results.append(evaluate(paired))
        except InputError as error:
            failed.append((patient_id, ct_uid, str(error)))
    progress(len(pairs), len(pairs), "evaluated")
    return tuple(results), tuple(failed)


def _evaluate(
    paired: PairedSeries,
    *,
    synthesizer: Synthesizer | Ensemble,
    out: Path,
    contours_of: Callable[[SeriesPair], tuple[tuple[Contour, ...], str]],
    external: Sequence[Competitor],
    labels: LabelMaps | None,
    note: str,
) -> PatientResult:
    patient_id = paired.pair.ct.patient_id
    synthesizer = synthesizer.for_patient(patient_id)
    card = synthesizer.card
    ct, pet = read_ct_series(paired.pair.ct), paired.pet_volume(read_pet(paired.pair.pet))
    shift = estimate_shift(ct, pet)
    if card.recipe.alignment.correct:  # as in training
        pet = corrected(pet, shift)
    volumes = align(synthesizer.apply(ct), ct=ct, pet=pet, grid=card.recipe.grid)
    contours, error = contours_of(paired.pair)
    frame = paired.pair.ct.frame_of_reference_uid
    tumour, tumour_note = tumour_of(contours, volumes, frame_of_reference_uid=frame)
    regions = tumour_regions(contours, volumes, frame_of_reference_uid=frame)
    external_suv, missing = _external_predictions(external, paired.pair, ct, volumes)
    volumes = replace(volumes, tumour=tumour, regions=regions, external_suv=external_suv)
    baselines = card_baselines(card)
    volumes, no_organs = with_organs(volumes, paired.pair.ct, labels, card, baselines)
    predictions = predict_all_methods(volumes, baselines)
    title = f"{patient_id}, model {card.name} {synthesizer.checksum[:8]}"
    # hashed, because a patient can have two pairs and a patient ID is not a safe file name
    stem = f"{patient_digest(patient_id)}-{pair_id(paired.pair)}"
    pictures = (
        draw_comparison(volumes, out / f"{stem}.png", title=title, note=note),
        draw_projections(volumes, out / f"{stem}-mip.png", title=title, note=note),
    )
    return PatientResult(
        patient_id=patient_id,
        ct_series_instance_uid=paired.pair.ct.uid,
        pet_series_instance_uid=paired.pair.pet.uid,
        side=card.side_of(patient_id),
        comparison=compare(volumes, card, device=synthesizer.device),
        clinical=measure_clinical(volumes, baselines, tumour_note=error or tumour_note),
        in_3d={
            name: measure_volume(
                suv_bw, volumes.real_suv, volumes.body, measured=volumes.measured, device=synthesizer.device
            )
            for name, suv_bw in predictions.items()
        },
        appearance={
            name: measure_appearance(suv_bw, volumes.real_suv, volumes.body, spacing_mm=volumes.geometry.spacing_mm)
            for name, suv_bw in predictions.items()
        },
        lesions=measure_lesions(volumes, predictions, with_curve=("model", *LOOKUPS, *external_suv)),
        missing_external=missing,
        calibration_check=check_card_calibration(volumes, card),
        interval_shares=interval_shares(volumes, card, patient_id),
        pictures=tuple(path.name for path in pictures),
        shift=shift,
        organs=measure_organs(volumes, baselines, missing=no_organs),
    )


def _external_predictions(
    external: Sequence[Competitor], pair: SeriesPair, ct: Volume, volumes: AlignedVolumes
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the PET of each external program or model for a CT, and why those of the others are missing."""
    predictions, missing = {}, {}
    for program in external:
        try:
            predictions[program.name] = (
                predict_with_model(program, ct, pair.ct.patient_id, geometry=volumes.geometry)
                if isinstance(program, ModelPredictions)
                else read_external_prediction(program, pair.ct.uid, geometry=volumes.geometry, body=volumes.body)
            )
        except InputError as error:
            missing[program.name] = str(error)
    return predictions, missing


def _read_tumours(paths: Sequence[Path], pairs: Sequence[PairedSeries]) -> tuple[Contour, ...]:
    """Return the tumours of RT Structure Sets; raise PairingError where a file has none for any of the pairs."""
    frames = {paired.pair.ct.frame_of_reference_uid for paired in pairs}
    tumours: list[Contour] = []
    for path in paths:
        in_file = [contour for contour in read_contours(path) if contour.is_tumour]
        matching = [contour for contour in in_file if contour.frame_of_reference_uid in frames]
        if not matching:
            raise PairingError(
                f"{path.name}: none of its {len(in_file)} tumours (type GTV, or named GTV, tumour or lesion) is in the "
                "frame of reference of an evaluated CT; give the RT Structure Set of one of these CTs"
            )
        tumours += matching
    return tuple(tumours)


def _contours(scan: ScanReport | None, further: Sequence[Contour], pair: SeriesPair) -> tuple[tuple[Contour, ...], str]:
    """Return the contours of a CT, and an error message; contours that cannot be read do not stop the evaluation."""
    frame = pair.ct.frame_of_reference_uid
    matching = tuple(contour for contour in further if contour.frame_of_reference_uid == frame)
    try:
        found = () if scan is None else find_contours(scan, pair.ct, pair.pet)
    except DicomError as error:
        return matching, str(error)
    # a further file may also be among the studies
    return (*found, *(contour for contour in matching if not any(map(contour.is_same_as, found)))), ""


def _no_unseen_patients(pairs: int, reasons: str = "") -> PairingError:
    return PairingError(
        f"none of the {pairs} pairs is usable and of a patient that the model was neither trained nor validated on, so "
        f"there is nothing to evaluate; give studies of other patients{reasons}"
    )
