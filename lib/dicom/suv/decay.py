"""The fraction of the dose that remains at the time to which a PET series is decay-corrected.

The rules are those of the DICOM PET Image Module (PS3.3 C.8.9.1.1.5): START corrects all slices to the start of the
series, ADMIN to the injection; with NONE each slice decays from the injection to its own frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from lib.dicom.attributes.times import SUV_TOLERANCE, matters, parse_datetime
from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.suv.injection_time import injection_time
from lib.dicom.suv.nuclides import nuclide_of
from lib.dicom.suv.reference_time import average_count_s, is_frame_duration, reference_time
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

DECAY_CORRECTED = "DECY"  # of CorrectedImage
NONE_EXPLAINED = "DecayCorrection NONE requires AcquisitionDate, AcquisitionTime and ActualFrameDuration of every slice"


@dataclass(frozen=True)
class Decay:
    """The remaining fraction of the dose at the time to which the slices are corrected.

    Attributes:
        remaining: Fraction of the entire series; 1 for ADMIN.
        remaining_by_bed: Fraction of each bed for NONE; otherwise empty.
        warnings: Warnings for users.
    """

    remaining: float
    remaining_by_bed: dict[BedHeader, float]
    warnings: tuple[str, ...] = ()


def decay_of(pet: PetHeader, beds: tuple[BedHeader, ...]) -> Decay:
    """Return the decay between the injection and the time to which the series is corrected.

    Raises:
        MissingAttributeError: A time or the half-life is missing.
        UnsupportedSeriesError: DecayCorrection is not a DICOM term.
        DicomError: Attributes contradict each other.
    """
    if not pet.decay_correction:
        raise MissingAttributeError(pet.absence_reason("DecayCorrection"), attribute="DecayCorrection")
    if pet.decay_correction not in ("START", "ADMIN", "NONE"):
        raise UnsupportedSeriesError(f"DecayCorrection {pet.decay_correction}, expected START, ADMIN or NONE")
    warnings = _compare_with_corrected_image(pet, beds)
    if pet.decay_correction == "ADMIN":  # corrected to the injection: no decay
        return Decay(1.0, {}, warnings + _check_admin(pet, beds))
    _, half_life_s, notes = nuclide_of(pet)
    warnings += notes
    if pet.decay_correction == "NONE":
        by_bed, notes = _uncorrected(pet, beds, half_life_s)
        return Decay(1.0, by_bed, warnings + notes)
    reference = reference_time(pet, beds, half_life_s)
    injection = injection_time(pet, reference.moment, half_life_s)
    remaining = _remaining_fraction(reference.moment - injection.moment, half_life_s)
    return Decay(remaining, {}, warnings + reference.warnings + injection.warnings)


def _remaining_fraction(passed: timedelta, half_life_s: float) -> float:
    return float(2.0 ** (-passed.total_seconds() / half_life_s))


def _uncorrected(
    pet: PetHeader, beds: tuple[BedHeader, ...], half_life_s: float
) -> tuple[dict[BedHeader, float], tuple[str, ...]]:
    """Return the mean remaining fraction of the dose during each bed's frame: e^(-l t) (1 - e^(-l T)) / (l T).

    Source: Vácha et al. 2026, "Decay correction = NONE".
    """
    acquired = {bed: _acquired_at(pet, bed) for bed in beds}
    first = min((moment for moment in acquired.values() if moment is not None), default=None)
    if first is None or any(
        moment is None or not is_frame_duration(bed.frame_duration_s) for bed, moment in acquired.items()
    ):
        raise MissingAttributeError(f"{NONE_EXPLAINED}; export the decay-corrected series", attribute="AcquisitionTime")
    injection = injection_time(pet, first, half_life_s)
    fractions = {}
    for bed, moment in acquired.items():
        assert moment is not None and bed.frame_duration_s
        mean_s = average_count_s(bed.frame_duration_s, half_life_s)
        fractions[bed] = _remaining_fraction(moment - injection.moment + timedelta(seconds=mean_s), half_life_s)
    return fractions, injection.warnings


def _acquired_at(pet: PetHeader, bed: BedHeader) -> datetime | None:
    date = bed.acquisition_date or pet.series_date or pet.study_date
    return parse_datetime(date + bed.acquisition_time) if date and bed.acquisition_time else None


def _compare_with_corrected_image(pet: PetHeader, beds: tuple[BedHeader, ...]) -> tuple[str, ...]:
    """Return warnings from comparing DecayCorrection with CorrectedImage; if they differ, DecayFactor decides.

    Raises:
        DicomError: They differ, and DecayFactor does not decide.
    """
    if not pet.corrected_image:
        return ()
    lists_decay = DECAY_CORRECTED in pet.corrected_image
    is_corrected = pet.decay_correction != "NONE"
    if lists_decay == is_corrected:
        return ()
    lists = "lists" if lists_decay else "does not list"
    conflict = f"DecayCorrection is {pet.decay_correction}, but CorrectedImage {lists} {DECAY_CORRECTED}"
    factors = [bed.decay_factor for bed in beds if bed.decay_factor is not None]
    was_applied = any(factor > 1 + SUV_TOLERANCE for factor in factors)
    if is_corrected and was_applied:
        return (f"{conflict}; DecayFactor {max(factors):g} shows that it was corrected",)
    raise DicomError(f"{conflict}: it is unknown whether decay was corrected; correct the header")


def _check_admin(pet: PetHeader, beds: tuple[BedHeader, ...]) -> tuple[str, ...]:
    """Compare the applied factor with the decay since the injection, if the header has both.

    Raises:
        DicomError: The factor does not match a correction to the injection.
    """
    try:
        _, half_life_s, _ = nuclide_of(pet)
    except DicomError:
        return ()  # ADMIN needs no half-life
    for bed in beds:
        moment = _acquired_at(pet, bed)
        duration_s, factor = bed.frame_duration_s, bed.decay_factor
        if moment is None or factor is None or factor <= 1 or duration_s is None or not is_frame_duration(duration_s):
            continue
        try:
            injection = injection_time(pet, moment, half_life_s)
        except DicomError:
            return ()  # ADMIN needs no injection time
        mean_s = average_count_s(duration_s, half_life_s)
        since_s = (moment - injection.moment).total_seconds() + mean_s
        corrected_s = math.log2(factor) * half_life_s
        error = timedelta(
            seconds=max(abs(since_s - corrected_s) - mean_s, 0.0)
        )  # some scanners correct to the start of the frame
        if matters(error, half_life_s):
            raise DicomError(
                f"DecayCorrection is ADMIN, but DecayFactor {factor:g} corrects {corrected_s:.0f} s of decay, expected "
                f"{since_s:.0f} s since the injection; correct the header"
            )
    return ()
