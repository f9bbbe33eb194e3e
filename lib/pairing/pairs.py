"""Pair CT and PET series; give the reason for each pair and each unpaired series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lib.dicom.acquisition_time import minutes_between
from lib.dicom.scan.scan import ScannedSeries, ScanReport
from lib.errors import PairingError
from lib.imaging.volume import Volume
from lib.pairing.assignment import FrameAssignment
from lib.pairing.registration_result import Registered
from lib.pairing.slice_pairs import SliceMatch, common_positions_mm, match_slices
from lib.types import SeriesPair

__all__ = [
    "PairRecord",
    "PairedSeries",
    "PairingReport",
    "SliceMatch",
    "Unpaired",
    "match_slices",
    "pair_record",
    "pair_series",
]


@dataclass(frozen=True, eq=False)
class PairedSeries:
    """A CT and a PET of the same patient and frame of reference, and the reason for this pair.

    If the frames of reference differ, `registered` has the registration of the PET to the CT.
    """

    pair: SeriesPair
    ct: ScannedSeries
    pet: ScannedSeries
    reason: str
    registered: Registered | None = None

    @property
    def ct_minutes_after_pet(self) -> float | None:
        """Minutes from the PET to the CT; negative if the CT was first, None if a time is unknown."""
        return minutes_between(self.pet.acquired, self.ct.acquired)

    def match(self, *, tolerance_mm: float) -> SliceMatch:
        """Return the slice pairs within a tolerance; none for a registered pair, whose planes are not parallel."""
        if self.registered is not None:
            return self.registered.match(self.ct, self.pet)
        ct_mm, pet_mm = common_positions_mm(self.ct, self.pet)
        return match_slices(ct_mm, pet_mm, tolerance_mm=tolerance_mm)

    def pet_volume(self, pet: Volume) -> Volume:
        """Return the PET as read, in the CT's frame of reference."""
        return pet if self.registered is None else self.registered.movement.move(pet)


@dataclass(frozen=True)
class Unpaired:
    """A CT or PET series that is in no pair, and the reason."""

    series_uid: str
    patient_id: str
    modality: str
    reason: str


@dataclass(frozen=True, eq=False)
class PairingReport:
    """The pairs of a scan, and the CT and PET series that are in none, both in the order of the scan."""

    pairs: tuple[PairedSeries, ...]
    unpaired: tuple[Unpaired, ...]


@dataclass(frozen=True)
class PairRecord:
    """One line of `pair --json`.

    Attributes:
        study_instance_uid: StudyInstanceUID of the PET.
        ct_study_instance_uid: StudyInstanceUID of the CT: the same, or another of that day.
        paired_because: Reason for this pair.
        ct_minutes_after_pet: Minutes from the PET to the CT; negative if the CT was first, None if a time is unknown.
        registered: Whether the PET was registered to the CT, because their frames of reference differ.
        translation_mm, rotation_deg: Translation of a registered PET's centre (x, y, z), and angle of rotation.
        registration_quality: See `Registered.quality`; None if not registered.
    """

    patient_id: str
    study_instance_uid: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    ct_slices: int
    pet_slices: int
    slice_pairs: int
    max_offset_mm: float
    ct_study_instance_uid: str
    paired_because: str
    ct_minutes_after_pet: float | None
    registered: bool
    translation_mm: tuple[float, float, float] | None
    rotation_deg: float | None
    registration_quality: dict[str, float | None] | None


def pair_record(paired: PairedSeries, *, tolerance_mm: float) -> PairRecord:
    """Return a pair as the command line and the server report it; `max_offset_mm` is rounded to a nanometre."""
    match = paired.match(tolerance_mm=tolerance_mm)
    return PairRecord(
        patient_id=paired.pair.ct.patient_id,
        study_instance_uid=paired.pair.pet.study_uid,
        ct_series_instance_uid=paired.pair.ct.uid,
        pet_series_instance_uid=paired.pair.pet.uid,
        ct_slices=paired.pair.ct.slice_count,
        pet_slices=paired.pair.pet.slice_count,
        slice_pairs=len(match.pairs),
        max_offset_mm=round(match.largest_offset_mm, 6),
        ct_study_instance_uid=paired.pair.ct.study_uid,
        paired_because=paired.reason,
        ct_minutes_after_pet=paired.ct_minutes_after_pet,
        registered=paired.registered is not None,
        translation_mm=None if paired.registered is None else paired.registered.movement.translation_mm,
        rotation_deg=None if paired.registered is None else paired.registered.movement.rotation_deg,
        registration_quality=None if paired.registered is None else paired.registered.quality,
    )


def pair_series(report: ScanReport, *, preferred_ct: frozenset[str] = frozenset()) -> PairingReport:
    """Return one pair for each PET acquisition that has a CT, ordered by patient, study and time.

    The PET is the best of the acquisition: with SUV, then with the most slices, then the original. The CT is the one
    that the user names, else the choice of `lib/dicom/scan/ct_selection.py` among the originals that cover most of the
    PET. It is from the PET's study or, if that has none, from another study of the patient on that day in the same
    frame of reference.

    Args:
        report: The scan; series may be in different folders.
        preferred_ct: UIDs of CT series that are preferred to all others.

    Raises:
        PairingError: A preferred CT is not in the scan, or not usable.
    """
    _check_preferred(report, preferred_ct)
    pairs: list[PairedSeries] = []
    why: dict[int, str] = {}  # by the id of the series object: an export may contain a UID twice
    for group in _by_frame_of_reference(report):
        for found in FrameAssignment(preferred_ct, why).run(group):
            pairs.append(PairedSeries(SeriesPair(found.ct.series, found.pet.series), found.ct, found.pet, found.reason))
    pairs.sort(key=_sort_key)
    in_pairs = {id(found) for paired in pairs for found in (paired.ct, paired.pet)}
    unpaired = tuple(
        Unpaired(found.series.uid, found.series.patient_id, found.series.modality, _reason(found, report, why))
        for found in report.series
        if found.series.modality in ("CT", "PT") and id(found) not in in_pairs
    )
    return PairingReport(tuple(pairs), unpaired)


def _check_preferred(report: ScanReport, preferred_ct: frozenset[str]) -> None:
    for uid in sorted(preferred_ct):
        found = report.find(uid)
        if found is None or found.series.modality != "CT":
            raise PairingError(
                f"CT {uid}: no CT series with this UID under {report.root}",
                code="series_not_found",
                series_instance_uid=uid,
            )
        if found.reason is not None:
            raise PairingError(
                f"CT {uid}: cannot be used: {found.reason}", code="series_not_usable", series_instance_uid=uid
            )


def _by_frame_of_reference(report: ScanReport) -> list[list[ScannedSeries]]:
    groups: dict[tuple[str, str], list[ScannedSeries]] = {}
    for found in report.usable("CT") + report.usable("PT"):
        series = found.series
        if series.frame_of_reference_uid:
            groups.setdefault((series.patient_id, series.frame_of_reference_uid), []).append(found)
    return [groups[key] for key in sorted(groups)]


def _sort_key(paired: PairedSeries) -> tuple[str, ...]:
    pet, acquired = paired.pair.pet, paired.pet.acquired
    return pet.patient_id, pet.study_uid, pet.frame_of_reference_uid, acquired, pet.uid


def _reason(found: ScannedSeries, report: ScanReport, why: dict[int, str]) -> str:
    """Return why a series is unpaired: what makes it unusable, else what its study lacks."""
    if found.reason is not None:
        return found.reason
    if id(found) in why:
        return why[id(found)]
    other, name = ("PT", "PET") if found.series.modality == "CT" else ("CT", "CT")
    partners = [s for s in report.series if s.series.study_uid == found.series.study_uid and s.series.modality == other]
    return _why_no_partner(found, partners, name)


def _why_no_partner(found: ScannedSeries, partners: Sequence[ScannedSeries], name: str) -> str:
    usable = [partner for partner in partners if partner.is_usable]
    if not partners:
        return f"no {name} in the same study"
    if not usable:
        return f"no usable {name} in the same study ({partners[0].reason})"
    if all(partner.series.patient_id != found.series.patient_id for partner in usable):
        return f"the {name} of the same study has another PatientID"
    if not found.series.frame_of_reference_uid:
        return f"FrameOfReferenceUID is missing, so its position relative to the {name} is unknown"
    if all(partner.series.frame_of_reference_uid != found.series.frame_of_reference_uid for partner in usable):
        return f"the {name} of the same study has another frame of reference; register them before pairing"
    return f"no {name} of the study overlaps it"
