"""On request: pairs of a CT and a PET whose frames of reference differ, by laying the PET onto the CT.

Coordinates of two frames of reference cannot be compared, so that such a PET is in no pair otherwise. What is
registered is marked as such, with how far it was moved and how well it fits; what fits badly stays unpaired, with the
numbers.
docs/decisions/0024-which-ct-belongs-to-a-pet.md tells what was measured.
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

MAX_SLACK_MM = 25.0  # where the PET fits nearly as well that far away, its place along the body is not known
MAX_ROTATION_DEG = 20.0  # who lies on the same table turns less between two scans; more is a failure of the method


def register_unpaired(
    report: ScanReport,
    pairing: PairingReport,
    *,
    local_files: LocalFiles = already_local,
    progress: Progress = no_progress,
) -> PairingReport:
    """Return the pairs there are, and those that registration adds, in the order of patient and study.

    A PET that is in no pair is laid onto a CT of the same patient that is in none: of the same study, else of the same
    day, whose frame of reference is another one or is missing. Of several, `lib/dicom/scan/ct_selection.py` chooses.

    Args:
        report: The scan that was paired.
        pairing: Its pairs.
        at_hand: Brings the files of a pair, where they do not lie in a folder.
        progress: Told before each registration.
    """
    taken = {id(found) for paired in pairing.pairs for found in (paired.ct, paired.pet)}
    alone = _acquisitions_without_pair(report, taken)
    added: list[PairedSeries] = []
    failed: dict[str, str] = {}
    for number, acquisition in enumerate(alone):
        pet = acquisition.pets[0]
        progress(number, len(alone), f"registering {pet.series.patient_id}")
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
    pairs = sorted((*pairing.pairs, *added), key=_place)
    in_pairs = {uid for paired in added for uid in (paired.pair.ct.uid, paired.pair.pet.uid)}
    unpaired = tuple(
        replace(one, reason=failed.get(one.series_uid, one.reason))
        for one in pairing.unpaired
        if one.series_uid not in in_pairs
    )
    return PairingReport(tuple(pairs), unpaired)


def register_pair(ct: ScannedSeries, pet: ScannedSeries) -> PairedSeries:
    """Return a CT and a PET of different frames of reference as a pair, the PET laid onto the CT.

    Raises:
        PairingError: They cannot be registered, or fit badly; the message has the numbers.
        DicomError: One cannot be read as HU or SUV.
    """
    ct_hu, suv_bw = read_ct(ct.series), mask_unmeasured(read_pet(pet.series))
    movement = register_rigid(ct_hu, suv_bw)
    check = check_volumes(ct_hu, movement.move(suv_bw))
    moved = f"moved by {movement.translation_mm} mm and turned by {movement.rotation_deg:g} degrees"
    numbers = (
        f"outline {check.outline}, coverage {check.coverage}, mutual information {movement.information_after}, "
        f"sure to about {max(movement.slack_mm, FINE_MM):g} mm"
    )
    if not check.ok:
        raise PairingError(
            f"CT {ct.series.uid} and PET {pet.series.uid}: registered, they do not fit ({numbers}; {moved}): "
            f"{'; '.join(check.reasons)}"
        )
    if movement.rotation_deg > MAX_ROTATION_DEG or movement.slack_mm > MAX_SLACK_MM:
        raise PairingError(
            f"CT {ct.series.uid} and PET {pet.series.uid}: registered, their place is not sure ({numbers}; {moved}): "
            f"expected at most {MAX_ROTATION_DEG:g} degrees, and to be sure to {MAX_SLACK_MM:g} mm"
        )
    reason = f"registered, for their frames of reference differ: the PET was {moved} ({numbers})"
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
    """Return the CT to lay a PET onto; None where there is none in another frame of reference."""
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


def _place(paired: PairedSeries) -> tuple[str, str, str]:
    return paired.pet.series.patient_id, paired.pet.series.study_uid, paired.pet.acquired
