"""From a PET's stored numbers to Bq/mL and to the body-weight SUV. Pure functions of the header; nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lib.dicom.decay import Injection, injection_of
from lib.dicom.header import BedHeader, PetHeader
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError
from lib.types import FloatArray

GRAMS_PER_KG = 1000.0
SLICES_DISAGREE = "its slices disagree about units, weight, dose or times; expected one answer for the whole series"
WEIGHT_RANGE_KG = (0.01, 700.0)  # a mouse to the heaviest patient known; 70000 is a weight in grams


@dataclass(frozen=True)
class Scale:
    """What rescaled PET numbers are multiplied by, how that came about, and what a reader should know."""

    factor: float
    source: str
    warnings: tuple[str, ...] = ()


def suv_body_weight(activity_bqml: FloatArray, injection: Injection, *, weight_kg: float) -> FloatArray:
    """Return the body-weight SUV of a PET volume: activity x weight / dose left at the time it is corrected to.

    Args:
        activity_bqml: Decay-corrected activity, shape (K, R, C), Bq/mL.
        injection: Dose [Bq], half-life [s], and the two times between which it decayed.
        weight_kg: Patient weight, above 0; 1 mL of the patient weighs 1 g.

    Returns:
        SUVbw, shape (K, R, C), g/mL, float32.

    Source: QIBA, "SUV vendor-neutral pseudo-code, happy path only"; checked on a GE study that others converted.
    """
    return (activity_bqml * suv_per_bqml(injection, weight_kg=weight_kg)).astype("float32")


def suv_per_bqml(injection: Injection, *, weight_kg: float) -> float:
    """Return the SUVbw of 1 Bq/mL."""
    return weight_kg * GRAMS_PER_KG / injection.remaining_dose_bq


def suv_scale(pet: PetHeader, beds: Iterable[BedHeader]) -> Scale:
    """Return what makes SUVbw of this series' rescaled numbers.

    Raises:
        MissingAttributeError: The header lacks the weight, the dose or a time.
        UnsupportedSeriesError: Another SUV type, other units, not decay-corrected.
        DicomError: Values that cannot be.
    """
    if pet.units == "GML":
        if pet.suv_type not in ("", "BW"):
            raise UnsupportedSeriesError(f"SUVType {pet.suv_type}, expected BW (body weight); export SUVbw or Bq/mL")
        return Scale(1.0, "SUVbw (GML)")
    if pet.units == "CNTS" and pet.philips_suv_factor:
        return Scale(pet.philips_suv_factor, "CNTS -> SUVbw (Philips factor)")
    activity = activity_scale(pet)
    weight_kg = _weight(pet.weight_kg)
    injection, warnings = injection_of(pet, beds)
    factor = activity.factor * suv_per_bqml(injection, weight_kg=weight_kg)
    return Scale(factor, f"{pet.units} -> SUVbw", activity.warnings + warnings)


def activity_scale(pet: PetHeader) -> Scale:
    """Return what makes Bq/mL of this series' rescaled numbers.

    Raises:
        UnsupportedSeriesError: Units without a way to Bq/mL.
        MissingAttributeError: Units are missing, or Philips' factors are.
    """
    if pet.units == "BQML":
        return Scale(1.0, "BQML")
    if pet.units == "CNTS":
        if not pet.philips_activity_factor:
            lost = "(7053,xx09) is" if pet.philips_suv_factor else "(7053,xx00) SUV and (7053,xx09) Bq/mL are"
            raise MissingAttributeError(f"Units CNTS (counts), and Philips' private {lost} missing; export it in Bq/mL")
        return Scale(pet.philips_activity_factor, "CNTS -> BQML (Philips factor)")
    if not pet.units:
        raise MissingAttributeError("Units is missing")
    raise UnsupportedSeriesError(f"Units {pet.units}, expected BQML, GML or CNTS; export it in Bq/mL")


@dataclass(frozen=True)
class SuvState:
    """Whether a PET series can become SUVbw, in words for people: `SUVbw (GML)`, `Bq/mL only: ... is missing`."""

    has_suv: bool
    words: str
    warnings: tuple[str, ...] = ()


def suv_state(pet: PetHeader, beds: Iterable[BedHeader]) -> SuvState:
    """Return what the series can become.

    Raises:
        DicomError: It can become neither SUVbw nor Bq/mL.
    """
    try:
        scale = suv_scale(pet, beds)
        return SuvState(True, scale.source, scale.warnings)
    except DicomError as error:
        if pet.units == "GML":
            raise
        activity_scale(pet)  # raises where not even Bq/mL can be had
        return SuvState(False, f"Bq/mL only: {error}")


def _weight(weight_kg: float | None) -> float:
    low, high = WEIGHT_RANGE_KG
    if not weight_kg:
        raise MissingAttributeError("PatientWeight is missing")
    if not low <= weight_kg <= high:
        raise DicomError(f"PatientWeight is {weight_kg:g} kg, expected {low:g} to {high:g} kg; correct the header")
    return weight_kg
