"""Which CT belongs to which PET, why that one, and why the others stay alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.dicom.scan import ScannedSeries, ScanReport
from lib.errors import PairingError
from lib.imaging.geometry import Geometry
from lib.pairing.slices import SliceMatch, common_positions_mm, match_slices
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

SAME_COVERAGE = 0.01  # CTs whose shares of the PET differ by less cover it equally well; then the finer one is taken


@dataclass(frozen=True, eq=False)
class PairedSeries:
    """A CT and the PET of the same study and frame of reference; `reason` says why these two."""

    pair: SeriesPair
    ct: ScannedSeries
    pet: ScannedSeries
    reason: str

    def match(self, *, tolerance_mm: float) -> SliceMatch:
        """Return which slices pair within the tolerance."""
        ct_mm, pet_mm = common_positions_mm(self.ct, self.pet)
        return match_slices(ct_mm, pet_mm, tolerance_mm=tolerance_mm)


@dataclass(frozen=True)
class Unpaired:
    """A CT or PET series that is in no pair, and why."""

    series_uid: str
    patient_id: str
    modality: str
    reason: str


@dataclass(frozen=True, eq=False)
class PairingReport:
    """Every pair of a scan, and every CT and PET series that is in none, both in the order of the scan."""

    pairs: tuple[PairedSeries, ...]
    unpaired: tuple[Unpaired, ...]


@dataclass(frozen=True)
class PairRecord:
    """One line of `pair --json`."""

    patient_id: str
    study_instance_uid: str
    ct_series_instance_uid: str
    pet_series_instance_uid: str
    ct_slices: int
    pet_slices: int
    slice_pairs: int
    max_offset_mm: float


def pair_record(paired: PairedSeries, *, tolerance_mm: float) -> PairRecord:
    """Return a pair as the command line and the server tell it; `max_offset_mm` is rounded to a nanometre."""
    match = paired.match(tolerance_mm=tolerance_mm)
    return PairRecord(
        patient_id=paired.pair.ct.patient_id,
        study_instance_uid=paired.pair.ct.study_uid,
        ct_series_instance_uid=paired.pair.ct.uid,
        pet_series_instance_uid=paired.pair.pet.uid,
        ct_slices=paired.pair.ct.slice_count,
        pet_slices=paired.pair.pet.slice_count,
        slice_pairs=len(match.pairs),
        max_offset_mm=round(match.largest_offset_mm, 6),
    )


def pair_series(report: ScanReport, *, preferred_ct: frozenset[str] = frozenset()) -> PairingReport:
    """Return at most one pair for each study and frame of reference.

    The PET is the one with SUV, then with the most slices, then the original; the CT the one the user names, else the
    original that covers the largest share of the PET, else the finer.

    Args:
        report: What was found; series may lie in different folders.
        preferred_ct: Series UIDs of CTs to take whatever else there is.

    Raises:
        PairingError: A preferred CT is not in the scan, or not usable.
    """
    _check_preferred(report, preferred_ct)
    pairs: list[PairedSeries] = []
    why: dict[int, str] = {}  # by the series object: an unlucky export may hold one UID twice
    for group in _by_frame_of_reference(report):
        paired = _pair_group(group, preferred_ct, why)
        if paired is not None:
            pairs.append(paired)
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
                f"CT {uid}: no CT series with this UID under {report.root}; `scan` lists those there are"
            )
        if found.reason is not None:
            raise PairingError(f"CT {uid}: cannot be used: {found.reason}")


def _by_frame_of_reference(report: ScanReport) -> list[list[ScannedSeries]]:
    groups: dict[tuple[str, str, str], list[ScannedSeries]] = {}
    for found in report.usable("CT") + report.usable("PT"):
        series = found.series
        if series.frame_of_reference_uid:
            groups.setdefault((series.patient_id, series.study_uid, series.frame_of_reference_uid), []).append(found)
    return [groups[key] for key in sorted(groups)]


def _pair_group(group: list[ScannedSeries], preferred: frozenset[str], why: dict[int, str]) -> PairedSeries | None:
    cts = [found for found in group if found.series.modality == "CT"]
    pets = sorted((found for found in group if found.series.modality == "PT"), key=_pet_rank)
    chosen: PairedSeries | None = None
    for pet in pets:
        if chosen is not None:
            why[id(pet)] = f"another PET of the study is used ({chosen.pet.series.uid}): {_why_pet(chosen.pet, pet)}"
            continue
        chosen = _pair_pet(pet, cts, preferred, why, others=[other for other in pets if other is not pet])
    if chosen is not None:
        for ct in cts:
            why.setdefault(id(ct), f"another CT of the study is used ({chosen.ct.series.uid}): {chosen.reason}")
    return chosen


def _pet_rank(pet: ScannedSeries) -> tuple[bool, int, bool, str]:
    return not pet.has_suv, -len(pet.positions_mm), not pet.is_original, pet.series.uid


def _why_pet(chosen: ScannedSeries, other: ScannedSeries) -> str:
    if chosen.has_suv != other.has_suv:
        return "it has SUV"
    if len(chosen.positions_mm) != len(other.positions_mm):
        return f"it has more slices ({len(chosen.positions_mm)} against {len(other.positions_mm)})"
    return "it is the original" if chosen.is_original != other.is_original else "the two are alike, its UID comes first"


def _pair_pet(
    pet: ScannedSeries,
    cts: list[ScannedSeries],
    preferred: frozenset[str],
    why: dict[int, str],
    *,
    others: list[ScannedSeries],
) -> PairedSeries | None:
    """Return the PET with the CT that suits it best; where there is none, say why for both."""
    shares: list[tuple[float, ScannedSeries]] = []
    for ct in cts:
        named = ct.series.uid in preferred
        if not ct.is_original and not named:
            why[id(ct)] = (
                f"ImageType {'/'.join(ct.image_type[:2])} is not ORIGINAL; name this CT to use it all the same"
            )
            continue
        try:
            common_positions_mm(ct, pet)
        except PairingError as error:
            why[id(pet)] = why[id(ct)] = str(error)
            continue
        share = covered_share(ct, pet)
        if share > 0:
            shares.append((share, ct))
        else:
            why[id(ct)] = f"does not overlap PET {pet.series.uid}"
    named_shares = [(share, ct) for share, ct in shares if ct.series.uid in preferred]
    if not shares:
        if cts:
            why.setdefault(id(pet), "no original CT of the study overlaps it")
        return None
    ct, reason = _best_ct(named_shares or shares, named=bool(named_shares))
    if others:
        reason += f"; the PET: {_why_pet(pet, others[0])}"
    return PairedSeries(SeriesPair(ct.series, pet.series), ct, pet, reason)


def _best_ct(shares: list[tuple[float, ScannedSeries]], *, named: bool) -> tuple[ScannedSeries, str]:
    largest = max(share for share, _ in shares)
    equal = [ct for share, ct in shares if share >= largest - SAME_COVERAGE]
    best = min(equal, key=lambda ct: (-len(ct.positions_mm), ct.series.uid))
    if named:
        return best, "the CT was named by the user"
    if len(shares) == 1:
        return best, f"the only CT that overlaps the PET; it covers {largest:.0%} of it"
    if len(equal) == 1:
        second = max(share for share, ct in shares if ct is not best)
        return best, f"the CT covers {largest:.0%} of the PET, the next one {second:.0%}"
    return (
        best,
        f"{len(equal)} CTs cover {largest:.0%} of the PET; this one has the most slices ({len(best.positions_mm)})",
    )


def covered_share(ct: ScannedSeries, pet: ScannedSeries) -> float:
    """Return the share of the PET's box, outer edges of its voxels, that lies inside the CT's box, 0 to 1."""
    if ct.geometry is None or pet.geometry is None:
        return 0.0
    corners = ct.geometry.to_voxel(_outer_corners_mm(pet.geometry))
    low, high = corners.min(axis=0), corners.max(axis=0)
    slices, rows, columns = ct.geometry.shape
    ends = np.array([columns, rows, slices]) - 0.5
    inside = np.clip(np.minimum(high, ends) - np.maximum(low, -0.5), 0, None) / (high - low)
    return float(np.prod(inside))


def _outer_corners_mm(geometry: Geometry) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    slices, rows, columns = geometry.shape
    voxels = [(c, r, k) for k in (-0.5, slices - 0.5) for r in (-0.5, rows - 0.5) for c in (-0.5, columns - 0.5)]
    return geometry.to_world(np.array(voxels))


def _reason(found: ScannedSeries, report: ScanReport, why: dict[int, str]) -> str:
    """Return why a series is alone: its own fault first, then what its study lacks."""
    if found.reason is not None:
        return found.reason
    if id(found) in why:
        return why[id(found)]
    wanted, word = ("PT", "PET") if found.series.modality == "CT" else ("CT", "CT")
    mates = [s for s in report.series if s.series.study_uid == found.series.study_uid and s.series.modality == wanted]
    return _why_no_mate(found, mates, word)


def _why_no_mate(found: ScannedSeries, mates: Sequence[ScannedSeries], word: str) -> str:
    usable = [mate for mate in mates if mate.is_usable]
    if not mates:
        return f"no {word} in the same study"
    if not usable:
        return f"no usable {word} in the same study ({mates[0].reason})"
    if all(mate.series.patient_id != found.series.patient_id for mate in usable):
        return f"the {word} of the same study names another PatientID"
    if not found.series.frame_of_reference_uid:
        return f"FrameOfReferenceUID is missing: where it lies against the {word} is not known"
    if all(mate.series.frame_of_reference_uid != found.series.frame_of_reference_uid for mate in usable):
        return f"the {word} of the same study has another frame of reference; register them before pairing"
    return f"no {word} of the study overlaps it"
