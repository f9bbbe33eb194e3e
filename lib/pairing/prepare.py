"""Prepare training arrays of series pairs: read DICOM once, resample to the recipe's grid, store region masks.

Arrays are in canonical voxel order (`lib/imaging/orientation.py`).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.dicom.acquisition import read_acquisition_details
from lib.dicom.read.volume import read_pet
from lib.dicom.rtstruct import find_contours, rasterise_tumours, structure_set_files
from lib.dicom.scan.open_ct import read_ct_series
from lib.dicom.scan.scan import ScanReport
from lib.errors import DicomError, InputError, PairingError, PreparedDataError
from lib.files import remove_abandoned, states_digest
from lib.imaging.body import body_mask
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.geometry import Geometry
from lib.imaging.metal import metal_volume_ml
from lib.imaging.normalize import normalize_ct, normalize_pet
from lib.imaging.orientation import VoxelOrder, to_canonical
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import resample_in_plane
from lib.pairing.label_maps import LabelMaps
from lib.pairing.matched_slices import in_canonical_order, matched_slices
from lib.pairing.pairs import PairedSeries
from lib.pairing.prepared import (
    ARRAYS,
    BODY,
    MEASURED,
    TUMOUR,
    Preparation,
    PreparedPair,
    PreparedSet,
    write_index,
)
from lib.pairing.prepared_folder import alone_in, entry_on_disk, pair_id, refuse_other_preparation, write_pair
from lib.pairing.prepared_organs import add_organs_to_all
from lib.pairing.quality_checks.alignment import corrected, diaphragm_slices, estimate_shift
from lib.types import BoolArray, FloatArray, LocalFiles, Progress, SeriesPair, already_local, no_progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedPair:
    """A pair that could not be prepared, and the reason."""

    patient_id: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    reason: str


@dataclass(frozen=True)
class PreparationReport:
    """Result of `prepare_pairs`; `reused` counts the pairs whose arrays existed.

    `without_organs` are the prepared pairs without a usable label map, if label maps were given.
    """

    prepared: PreparedSet
    failed: tuple[FailedPair, ...]
    reused: int
    without_organs: tuple[FailedPair, ...] = ()


def prepare_pairs(
    pairs: Sequence[PairedSeries],
    out: Path,
    *,
    preparation: Preparation,
    scan: ScanReport | None = None,
    labels: LabelMaps | None = None,
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> PreparationReport:
    """Write the arrays of each pair to `out`, and return the set of exactly these pairs.

    Existing arrays are reused if they were made from the same files with the same grid and windows. A pair that fails
    is reported with the reason, and the next one is prepared. The process may be killed at any time: an unfinished pair
    leaves a hidden folder, which the next run removes. Where another process prepares arrays in the same folder, the
    function waits for it and reuses its arrays.

    Args:
        pairs: Pairs to prepare.
        out: Folder, created if missing.
        preparation: Grid and windows of the recipe.
        scan: Scan that the pairs are from; tumours contoured in its RT Structure Sets are stored with the body mask.
        labels: Label maps of the CTs, whose organs are stored; by default, stored organs stay as they are.
        local_files: Returns the context in which the files of a pair are local.
        progress: Called before each pair.

    Raises:
        PreparedDataError: `out` has arrays of another grid or windows, or cannot be written.
    """
    try:
        (out / "pairs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PreparedDataError(f"{out}: cannot be written ({error.strerror}); choose another folder") from error
    with alone_in(out):
        return _prepare_all(pairs, out, preparation, scan, labels, local_files, progress)


def _prepare_all(
    pairs: Sequence[PairedSeries],
    out: Path,
    preparation: Preparation,
    scan: ScanReport | None,
    labels: LabelMaps | None,
    local_files: LocalFiles,
    progress: Progress,
) -> PreparationReport:
    refuse_other_preparation(out, preparation)
    remove_abandoned((out / "pairs").glob(".*"))
    done: list[PreparedPair] = []
    failed: list[FailedPair] = []
    reused = 0
    for number, paired in enumerate(pairs):
        progress(number, len(pairs), f"preparing {paired.pair.ct.patient_id}")
        try:
            with local_files(paired.pair.ct, paired.pair.pet):
                entry, reuses = _prepared(paired, out, preparation, scan)
            done.append(entry)
            reused += reuses
        except InputError as error:
            failed.append(_failed(paired.pair, error))
    without_organs: tuple[FailedPair, ...] = ()
    if labels is not None:
        by_id = {pair_id(paired.pair): paired.pair for paired in pairs}
        cts = {id_: pair.ct for id_, pair in by_id.items()}
        done, faults = add_organs_to_all(PreparedSet(out, preparation, tuple(done)), cts, labels, progress=progress)
        without_organs = tuple(_failed(by_id[id_], error) for id_, error in faults.items())
    write_index(out, preparation, done)
    progress(len(pairs), len(pairs), "prepared")
    return PreparationReport(PreparedSet.open(out), tuple(failed), reused, without_organs)


def _failed(pair: SeriesPair, error: InputError) -> FailedPair:
    return FailedPair(pair.ct.patient_id, pair.ct.uid, pair.pet.uid, str(error))


def _prepared(
    paired: PairedSeries, out: Path, preparation: Preparation, scan: ScanReport | None
) -> tuple[PreparedPair, bool]:
    """Return the index entry of a pair, and whether existing arrays were reused."""
    structures = () if scan is None else structure_set_files(scan, paired.pair.ct, paired.pair.pet)
    source = _fingerprint((*paired.pair.ct.files, *paired.pair.pet.files, *structures))
    if paired.registered is not None:
        source = hashlib.sha256(f"{source} {paired.registered.movement.matrix}".encode()).hexdigest()[:32]
    on_disk = entry_on_disk(out, paired.pair, source, preparation)
    entry = on_disk or _prepare(paired, out, source, preparation, scan)
    return _with_origin(entry, paired.pair), on_disk is not None  # entries of earlier versions lack the scanner


def _prepare(
    paired: PairedSeries, out: Path, source: str, preparation: Preparation, scan: ScanReport | None
) -> PreparedPair:
    pair = paired.pair
    if paired.registered is not None and preparation.grid.slices == "match":
        raise PairingError(
            "the PET is registered to the CT, so its slices are not parallel to the CT's and none match; use a recipe "
            "with grid.slices = resample for this pair"
        )
    ct, pet = read_ct_series(pair.ct), paired.pet_volume(mask_unmeasured(read_pet(pair.pet)))
    shift = estimate_shift(ct, pet)
    if preparation.correct_shift:
        pet = corrected(pet, shift)
    orders = VoxelOrder.of(ct.geometry), VoxelOrder.of(pet.geometry)
    offsets = in_canonical_order(paired.match(tolerance_mm=preparation.grid.tolerance_mm), *orders)
    ct, pet = to_canonical(ct), to_canonical(pet)
    geometry = preparation.grid.on(ct.geometry)
    rows, columns = geometry.shape[1:]
    if preparation.grid.slices == "match":
        chosen = [ct_slice for ct_slice, _ in offsets.pairs]
        suv_bw = matched_slices(pet, geometry, offsets, tolerance_mm=preparation.grid.tolerance_mm)
    else:
        chosen = list(range(ct.geometry.shape[0]))
        suv_bw = resample_to(pet, geometry).array
    measured = np.isfinite(suv_bw)
    if not measured.any():
        raise PairingError("the PET covers no part of the CT; check that both have the same frame of reference")
    body = resample_in_plane(body_mask(ct).astype(np.float32), rows, columns) >= 0.5
    unit_ct = normalize_ct(resample_in_plane(ct.array, rows, columns), preparation.windows)[chosen]
    unit_pet = normalize_pet(np.where(measured, suv_bw, 0).astype(np.float32), preparation.windows)
    tumour = _tumour(pair, geometry, scan)[chosen]
    regions = body[chosen] * np.uint8(BODY) + measured * np.uint8(MEASURED) + tumour * np.uint8(TUMOUR)
    entry = PreparedPair(
        id=pair_id(pair),
        patient_id=pair.ct.patient_id,
        study_instance_uid=pair.pet.study_uid,
        ct_series_instance_uid=pair.ct.uid,
        pet_series_instance_uid=pair.pet.uid,
        shape=(len(chosen), rows, columns),
        spacing_mm=geometry.spacing_mm,
        affine=_rows(geometry),
        ct_slices=tuple(chosen),
        largest_offset_mm=round(offsets.largest_offset_mm, 4),
        source=source,
        preparation=preparation.digest(),
        registered=paired.registered is not None,
        translation_mm=() if paired.registered is None else paired.registered.movement.translation_mm,
        rotation_deg=0.0 if paired.registered is None else paired.registered.movement.rotation_deg,
        shift_mm=shift.body_mm,
        shift_sd_mm=shift.sd_mm,
        diaphragm_shift_mm=shift.diaphragm_mm,
        diaphragm_slices=diaphragm_slices(shift, geometry, chosen),
        is_corrected=preparation.correct_shift,
        ct_pixel_mm=math.sqrt(ct.geometry.spacing_mm[1] * ct.geometry.spacing_mm[2]),
        metal_ml=metal_volume_ml(ct),
    )
    stored = (_stored(unit_ct, preparation), _stored(unit_pet, preparation), regions.astype(np.uint8))
    write_pair(out, entry, dict(zip(ARRAYS, stored, strict=True)))
    return entry


def _with_origin(entry: PreparedPair, pair: SeriesPair) -> PreparedPair:
    ct, pet = read_acquisition_details(pair.ct), read_acquisition_details(pair.pet)
    return replace(
        entry,
        ct_scanner=ct.scanner,
        pet_scanner=pet.scanner,
        body_part=ct.body_part or pet.body_part,
        tracer=pet.tracer,
        ct_kernel=ct.kernel,
        contrast_agent=ct.contrast_agent,
        sex=ct.sex,
        age_years=ct.age_years,
    )


def _tumour(pair: SeriesPair, geometry: Geometry, scan: ScanReport | None) -> BoolArray:
    """Return the mask of contoured tumours, shape (K, R, C); empty if a contour cannot be read, which is optional."""
    empty = np.zeros(geometry.shape, np.bool_)
    if scan is None:
        return empty
    try:
        contours = find_contours(scan, pair.ct, pair.pet)
    except DicomError as error:
        logger.warning("CT %s: tumour contours are skipped: %s", pair.ct.uid, error)
        return empty
    return rasterise_tumours(contours, geometry, frame_of_reference_uid=pair.ct.frame_of_reference_uid)[0]


def _fingerprint(files: Iterable[Path]) -> str:
    try:
        return states_digest(files)[:32]
    except OSError as error:
        raise PairingError(f"{error.filename}: cannot be read ({error.strerror}); scan the folder again") from error


def _stored(unit: FloatArray, preparation: Preparation) -> NDArray[Any]:
    if preparation.windows.bits == 8:
        return np.round(unit * 255).astype(np.uint8)
    return unit.astype(np.float16)


def _rows(geometry: Geometry) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in geometry.affine)
