"""Optional pairing of a CT and a PET with different frames of reference, by registration.

Coordinates of different frames of reference cannot be compared, so such a PET is otherwise unpaired. A registered pair
is marked as such, with its transform and quality of fit; a PET that fits badly stays unpaired, with the values as the
reason. See docs/decisions/0024-which-ct-belongs-to-a-pet.md for the measurements.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from lib.dicom.acquisition_time import minutes_between
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.ct_selection import CtTraits, choose_ct, when
from lib.dicom.scan.scan import ScannedSeries, ScanReport
from lib.errors import InputError, PairingError
from lib.imaging.field_of_view import mask_unmeasured
from lib.imaging.registration import FINE_MM, register_rigid
from lib.pairing.acquisitions import Acquisition, acquisitions_of, reason_not_same_day
from lib.pairing.pairs import PairedSeries, PairingReport
from lib.pairing.quality_checks.plausibility import check_volumes
from lib.pairing.registration_result import Registered
from lib.types import LocalFiles, Progress, SeriesPair, already_local, no_progress

logger = logging.getLogger(__name__)

MAX_SLACK_MM = 25.0  # a PET that fits nearly as well that far away has no known position along the body
MAX_ROTATION_DEG = 20.0  # patients turn less between two scans on the same table; more is a failed registration


def register_unpaired(
    report: ScanReport,
    pairing: PairingReport,
    *,
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> PairingReport:
    """Return the given pairs and those that registration adds, ordered by patient and study.

    An unpaired PET is registered to an unpaired CT of the same patient, from the same study, else from the same day,
    with another frame of reference or none. `lib/dicom/scan/ct_selection.py` chooses among several.

    Args:
        report: The scan that was paired.
        pairing: Its pairs.
        local_files: Returns the context in which the files of a pair are local.
        progress: Called before each registration.
    """
    taken = {id(found) for paired in pairing.pairs for found in (paired.ct, paired.pet)}
    unpaired_acquisitions = _acquisitions_without_pair(report, taken)
    added: list[PairedSeries] = []
    failed: dict[str, str] = {}
    for number, acquisition in enumerate(unpaired_acquisitions):
        pet = acquisition.pets[0]
        progress(number, len(unpaired_acquisitions), f"registering {pet.series.patient_id}")
        ct = _ct_to_register(report, pet, taken)
        if ct is None:
            continue
        try:
            with local_files(ct.series, pet.series):
                added.append(register_pair(ct, pet))
            taken |= {id(ct), id(pet)}
        except InputError as error:
            failed[pet.series.uid] = failed[ct.series.uid] = str(error)
            logger.warning("%s", error)
    pairs = sorted((*pairing.pairs, *added), key=_sort_key)
    in_pairs = {uid for paired in added for uid in (paired.pair.ct.uid, paired.pair.pet.uid)}
    unpaired = tuple(
        replace(one, reason=failed.get(one.series_uid, one.reason))
        for one in pairing.unpaired
        if one.series_uid not in in_pairs
    )
    return PairingReport(tuple(pairs), unpaired)


def register_pair(ct: ScannedSeries, pet: ScannedSeries) -> PairedSeries:
    """Return the pair of a CT and a PET with different frames of reference, the PET registered to the CT.

    Raises:
        PairingError: Registration failed, or they fit badly; the message has the values.
        DicomError: A series cannot be read as HU or SUV.
    """
    ct_hu, suv_bw = read_ct(ct.series), mask_unmeasured(read_pet(pet.series))
    movement = register_rigid(ct_hu, suv_bw)
    check = check_volumes(ct_hu, movement.move(suv_bw))
    moved = f"moved by {movement.translation_mm} mm and rotated by {movement.rotation_deg:g} degrees"
    numbers = (
        f"outline {check.outline}, coverage {check.coverage}, mutual information {movement.information_after}, "
        f"position known to about {max(movement.slack_mm, FINE_MM):g} mm"
    )
    if not check.ok:
        raise PairingError(
            f"CT {ct.series.uid} and PET {pet.series.uid}: registered, but they do not fit ({numbers}; {moved}): "
            f"{'; '.join(check.reasons)}"
        )
    if movement.rotation_deg > MAX_ROTATION_DEG or movement.slack_mm > MAX_SLACK_MM:
        raise PairingError(
            f"CT {ct.series.uid} and PET {pet.series.uid}: registered, but their position is uncertain ({numbers}; "
            f"{moved}): expected at most {MAX_ROTATION_DEG:g} degrees, and a position known to {MAX_SLACK_MM:g} mm"
        )
    reason = f"registered, since their frames of reference differ: the PET was {moved} ({numbers})"
    minutes = minutes_between(pet.acquired, ct.acquired)
    if minutes is not None:
        reason += f"; acquired {when(minutes)}"
    pair = SeriesPair(ct.series, pet.series, registered=True)
    return PairedSeries(pair, ct, pet, reason, Registered(movement, check.outline, check.coverage))


def _acquisitions_without_pair(report: ScanReport, taken: set[int]) -> list[Acquisition]:
    by_study: dict[tuple[str, str], list[ScannedSeries]] = {}
    for pet in report.usable("PT"):
        by_study.setdefault((pet.series.patient_id, pet.series.study_uid), []).append(pet)
    return [
        acquisition
        for key in sorted(by_study)
        for acquisition in acquisitions_of(by_study[key])
        if not any(id(pet) in taken for pet in acquisition.pets)
    ]


def _ct_to_register(report: ScanReport, pet: ScannedSeries, taken: set[int]) -> ScannedSeries | None:
    """Return the CT to register a PET to; None if there is none in another frame of reference."""
    frame = pet.series.frame_of_reference_uid
    free = [
        ct
        for ct in report.usable("CT")
        if ct.is_original
        and id(ct) not in taken
        and ct.series.patient_id == pet.series.patient_id
        and (not frame or ct.series.frame_of_reference_uid != frame)
    ]
    own = [ct for ct in free if ct.series.study_uid == pet.series.study_uid]
    near = own or [ct for ct in free if pet.series.patient_id and reason_not_same_day(ct, pet) is None]
    return near[choose_ct(_traits(near, pet))[0]] if near else None


def _traits(cts: Sequence[ScannedSeries], pet: ScannedSeries) -> list[CtTraits]:
    return [
        CtTraits(
            uid=ct.series.uid,
            description=ct.series.description,
            slices=len(ct.positions_mm),
            minutes_after=minutes_between(pet.acquired, ct.acquired),
            kernel=ct.convolution_kernel,
            contrast_agent=ct.contrast_agent,
        )
        for ct in cts
    ]


def _sort_key(paired: PairedSeries) -> tuple[str, str, str]:
    return paired.pet.series.patient_id, paired.pet.series.study_uid, paired.pet.acquired
