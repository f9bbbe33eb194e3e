"""A model beside trivial predictors on real pairs, patient by patient."""

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
from lib.evaluation.calibration_check import trust_of
from lib.evaluation.clinical_metrics import read_pair, tumour_of, tumour_regions
from lib.evaluation.external_predictions import Peer, read_peer
from lib.evaluation.patient_result import PatientResult
from lib.evaluation.report.html import write_report
from lib.evaluation.report.images import draw_comparison, draw_projections
from lib.evaluation.result import Evaluation, write_evaluation
from lib.evaluation.slice_metrics import AlignedVolumes, align, card_baselines, compare, drawn_by_all
from lib.learning.model_card.card import patient_digest
from lib.metrics.volume import measure_volume
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepare import pair_id
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
    external: Sequence[Peer] = (),
    note: str = "",
    progress: Progress = no_progress,
) -> Evaluation:
    """Return the figures of every pair, and write them to `out`.

    Written are `report.html`, `evaluation.json`, `patients.csv`, `means.csv` and two pictures a pair. A pair that fails
    is reported with its reason and the rest goes on. Means are over patients that the model was neither trained nor
    chosen on.

    Args:
        pairs: Whom to judge.
        synthesizer: The model.
        out: Folder, made where it is missing.
        scan: Where the pairs come from; tumours drawn in its RT Structure Sets are measured.
        contours: RT Structure Sets beside those of `scan`; their tumours are measured in the CTs of their frame.
        run: Folder of the model's training run, whose history the report draws; none when not given.
        peers: Other programs, whose PETs of the same CTs are set beside the model's. One that is missing or unfit is
            reported, and the rest goes on.
        note: A line below every picture, such as the data's attribution.
        progress: Told before each pair.

    Raises:
        PairingError: There is no such patient among the pairs, or the model's card has no baselines, or a tumour of
            `contours` was drawn on none of the CTs.
        DicomError: One of `contours` is damaged, or no RT Structure Set.
    """
    if all(synthesizer.card.side_of(paired.pair.ct.patient_id).shaped_weights for paired in pairs):
        raise _nothing_to_prove(len(pairs))  # said before the work, not after it
    card_baselines(synthesizer.card)  # refused before the work, too
    given = _read_tumours(contours, pairs)
    results: list[PatientResult] = []
    failed: list[tuple[str, str, str]] = []
    for number, paired in enumerate(pairs):
        patient_id, ct_uid = paired.pair.ct.patient_id, paired.pair.ct.uid
        progress(number, len(pairs), f"evaluating {patient_id}")
        try:
            results.append(_evaluate(paired, synthesizer, out, partial(_contours, scan, given), external, note))
        except InputError as error:
            failed.append((patient_id, ct_uid, str(error)))
    progress(len(pairs), len(pairs), "evaluated")
    evaluation = Evaluation(
        synthesizer.card.name, synthesizer.checksum, tuple(results), tuple(failed), tuple(peer.name for peer in external),
        max_shift_mm=synthesizer.card.recipe.alignment.max_shift_mm,
    )  # fmt: skip
    if not evaluation.judged:
        reasons = "".join(f"; {ct_uid}: {reason}" for _, ct_uid, reason in failed)
        raise _nothing_to_prove(len(pairs), reasons)
    write_evaluation(evaluation, out)
    write_report(evaluation, synthesizer.card, out, run=run, note=note)
    return evaluation


def _evaluate(
    paired: PairedSeries,
    synthesizer: Synthesizer | Ensemble,
    out: Path,
    contours_of: Callable[[SeriesPair], tuple[tuple[Contour, ...], str]],
    external: Sequence[Peer],
    note: str,
) -> PatientResult:
    card, patient_id = synthesizer.card, paired.pair.ct.patient_id
    ct, pet = read_ct_series(paired.pair.ct), paired.pet_volume(read_pet(paired.pair.pet))
    shift = estimate_shift(ct, pet)
    if card.recipe.alignment.correct:  # the model learnt where the CT is, and is judged there
        pet = corrected(pet, shift)
    volumes = align(synthesizer.apply(ct), ct=ct, pet=pet, grid=card.recipe.grid)
    contours, damage = contours_of(paired.pair)
    frame = paired.pair.ct.frame_of_reference_uid
    tumour, drawn = tumour_of(contours, volumes, frame_of_reference_uid=frame)
    regions = tumour_regions(contours, volumes, frame_of_reference_uid=frame)
    peers_suv, absent = _read_peers(external, paired.pair.ct.uid, volumes)
    volumes = replace(volumes, tumour=tumour, regions=regions, peers_suv=peers_suv)
    baselines = card_baselines(card)
    title = f"{patient_id}, model {card.name} {synthesizer.checksum[:8]}"
    # hashes: two pairs of one patient stay apart, and a patient ID cannot name a path
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
        reading=read_pair(volumes, baselines, tumour_note=damage or drawn),
        in_3d={
            name: measure_volume(
                suv_bw, volumes.real_suv, volumes.body, measured=volumes.measured, device=synthesizer.device
            )
            for name, suv_bw in drawn_by_all(volumes, baselines).items()
        },
        absent_peers=absent,
        trust=trust_of(volumes, card),
        pictures=tuple(path.name for path in pictures),
        shift=shift,
    )


def _read_peers(
    external: Sequence[Peer], ct_series_instance_uid: str, volumes: AlignedVolumes
) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return what each peer drew of a CT, and why the others cannot be taken."""
    drawn, absent = {}, {}
    for peer in external:
        try:
            drawn[peer.name] = read_peer(peer, ct_series_instance_uid, geometry=volumes.geometry, body=volumes.body)
        except InputError as error:
            absent[peer.name] = str(error)
    return drawn, absent


def _read_tumours(paths: Sequence[Path], pairs: Sequence[PairedSeries]) -> tuple[Contour, ...]:
    """Return the tumours of RT Structure Sets; PairingError where a file has none for any of the pairs."""
    frames = {paired.pair.ct.frame_of_reference_uid for paired in pairs}
    tumours: list[Contour] = []
    for path in paths:
        drawn = [contour for contour in read_contours(path) if contour.is_tumour]
        fitting = [contour for contour in drawn if contour.frame_of_reference_uid in frames]
        if not fitting:
            raise PairingError(
                f"{path.name}: holds {len(drawn)} tumours (typed GTV, or called GTV, tumour or lesion), none of them "
                "in the frame of reference of a CT that is evaluated; give the RT Structure Set of one of these CTs"
            )
        tumours += fitting
    return tuple(tumours)


def _contours(scan: ScanReport | None, given: Sequence[Contour], pair: SeriesPair) -> tuple[tuple[Contour, ...], str]:
    """Return what was drawn on a CT, and why something cannot be read: the other figures are good without it."""
    frame = pair.ct.frame_of_reference_uid
    drawn = tuple(contour for contour in given if contour.frame_of_reference_uid == frame)
    try:
        found = () if scan is None else find_contours(scan, pair.ct, pair.pet)
    except DicomError as error:
        return drawn, str(error)
    # a file that was given may lie among the studies, too
    return (*found, *(contour for contour in drawn if not any(map(contour.is_same_as, found)))), ""


def _nothing_to_prove(pairs: int, reasons: str = "") -> PairingError:
    return PairingError(
        f"none of the {pairs} pairs can be used and is of a patient that the model has neither been trained nor chosen "
        f"on, so nothing would be proved; give studies of other patients{reasons}"
    )
