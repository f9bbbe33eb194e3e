"""Scale factors from rescaled PET values to Bq/mL and to the body-weight SUV, computed from the header alone.

The rules are those of Vácha et al. 2026, "Comprehensive Manual for SUV Computation and Digital Reference Objects for
its Verification"; its 17 digital reference objects serve as tests. Redundant attributes (dose and weight, nuclide and
half-life, times) are compared: contradictions raise an error, or give a warning that names both values if the intended
value is clear.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lib.dicom.attributes.times import SUV_TOLERANCE
from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.suv.decay import decay_of
from lib.dicom.suv.dose import GRAMS_PER_KG, dose_of, weight_of
from lib.dicom.suv.normalisation import to_body_weight
from lib.dicom.suv.nuclides import Nuclide, nuclide_of
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

SLICES_DISAGREE = "its slices disagree about units, weight, dose or times; expected the same values in all slices"
NOT_QUANTITATIVE = {
    "PROPCNTS": "proportional to counts",
    "PROPCPS": "proportional to counts per second, usually not attenuation-corrected",
    "CPS": "counts per second without a calibration factor",
    "1CM": "an attenuation map",
}


@dataclass(frozen=True)
class Scale:
    """The factor by which rescaled PET values are multiplied, its source, and warnings.

    Attributes:
        factor: Factor of all slices whose bed is not in `by_bed`.
        source: Units and conversion, as a text for users.
        warnings: Warnings for users.
        by_bed: Factor of the slices of each bed, if beds differ (DecayCorrection NONE).
    """

    factor: float
    source: str
    warnings: tuple[str, ...] = ()
    by_bed: Mapping[BedHeader, float] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, bed: BedHeader | None) -> float:
        """Return the factor for the slices of a bed."""
        return self.factor if bed is None else self.by_bed.get(bed, self.factor)


def suv_scale(pet: PetHeader, beds: Iterable[BedHeader]) -> Scale:
    """Return the scale from this series' rescaled values to SUVbw.

    Raises:
        MissingAttributeError: The header lacks the weight, the dose or a time.
        UnsupportedSeriesError: Units or SUVType cannot be converted to SUVbw.
        DicomError: Values are invalid or contradict each other.
    """
    if pet.units in ("GML", "CM2ML"):
        factor = to_body_weight(pet)
        type_ = pet.suv_type or ("BSA" if pet.units == "CM2ML" else "BW")
        source = "SUVbw (GML)" if type_ == "BW" else f"SUV by {type_} ({pet.units}) -> SUVbw"
        return Scale(factor.value, source, factor.warnings)
    if pet.units == "CNTS":
        _refuse_negative(pet)
    if pet.units == "CNTS" and pet.philips_suv_factor:
        return _philips_scale(pet, pet.philips_suv_factor, tuple(beds))
    return _activity_to_suv(pet, tuple(beds))


def activity_scale(pet: PetHeader) -> Scale:
    """Return the scale from this series' rescaled values to Bq/mL.

    Raises:
        UnsupportedSeriesError: Units cannot be converted to Bq/mL.
        MissingAttributeError: Units or Philips' factors are missing.
    """
    if pet.units == "BQML":
        warning = f"Units BQML with SUVType {pet.suv_type}, which applies to SUV only: read as Bq/mL"
        return Scale(1.0, "BQML", (warning,) if pet.suv_type else ())
    if pet.units == "CNTS":
        _refuse_negative(pet)
        if not pet.philips_activity_factor:
            lost = "(7053,xx09) is" if pet.philips_suv_factor else "(7053,xx00) SUV and (7053,xx09) Bq/mL are"
            undelivered = "not in the metadata of the PACS" if pet.undelivered else "missing"
            raise MissingAttributeError(
                f"Units CNTS (counts), and Philips' private {lost} {undelivered}; export it in Bq/mL",
                attribute="(7053,xx09)",
            )
        return Scale(pet.philips_activity_factor, "CNTS -> BQML (Philips factor)")
    if not pet.units:
        raise MissingAttributeError(pet.absence_reason("Units"), attribute="Units")
    what = f" ({NOT_QUANTITATIVE[pet.units]})" if pet.units in NOT_QUANTITATIVE else ""
    raise UnsupportedSeriesError(f"Units {pet.units}{what}, expected BQML, GML, CM2ML or CNTS; export it in Bq/mL")


@dataclass(frozen=True)
class SuvState:
    """Whether a PET series can be converted to SUVbw; `text` is for users: `SUVbw (GML)`, `Bq/mL only: ...`."""

    has_suv: bool
    text: str
    warnings: tuple[str, ...] = ()


def suv_state(pet: PetHeader, beds: Iterable[BedHeader]) -> SuvState:
    """Return whether a series can be converted to SUVbw or only to Bq/mL.

    Raises:
        DicomError: It can be converted to neither.
    """
    try:
        scale = suv_scale(pet, beds)
        return SuvState(True, scale.source, scale.warnings)
    except DicomError as error:
        if pet.units in ("GML", "CM2ML"):
            raise
        activity_scale(pet)  # raises if not even Bq/mL is available
        return SuvState(False, f"Bq/mL only: {error}")


def _activity_to_suv(pet: PetHeader, beds: tuple[BedHeader, ...]) -> Scale:
    activity = activity_scale(pet)
    if pet.injections > 1:
        raise UnsupportedSeriesError(
            f"{pet.injections} different injections in RadiopharmaceuticalInformationSequence, expected one; "
            "SUV has one dose"
        )
    weight = weight_of(pet)
    nuclide = _nuclide(pet)
    dose = dose_of(pet, nuclide, weight_kg=weight.value)
    decay = decay_of(pet, beds)
    of_full_dose = activity.factor * weight.value * GRAMS_PER_KG / dose.value
    return Scale(
        of_full_dose / decay.remaining,
        f"{pet.units} -> SUVbw",
        activity.warnings + weight.warnings + dose.warnings + decay.warnings,
        MappingProxyType({bed: of_full_dose / remaining for bed, remaining in decay.remaining_by_bed.items()}),
    )


def _refuse_negative(pet: PetHeader) -> None:
    for name, factor in (("00", pet.philips_suv_factor), ("09", pet.philips_activity_factor)):
        if factor is not None and factor < 0:
            raise DicomError(f"Philips' private factor (7053,xx{name}) is {factor:g}, expected above 0")


def _nuclide(pet: PetHeader) -> Nuclide | None:
    """Return the nuclide; None if it is unknown and DecayCorrection ADMIN makes it unnecessary."""
    try:
        return nuclide_of(pet)[0]
    except DicomError:
        if pet.decay_correction == "ADMIN":
            return None
        raise


def _philips_scale(pet: PetHeader, suv_factor: float, beds: tuple[BedHeader, ...]) -> Scale:
    """Return Philips' factor to SUV, compared with the factor computed from its factor to Bq/mL if available."""
    source = "CNTS -> SUVbw (Philips factor)"
    if not pet.philips_activity_factor:
        return Scale(suv_factor, source)
    try:
        computed = _activity_to_suv(pet, beds)
    except DicomError:
        return Scale(suv_factor, source)  # the console knew values that the header lacks
    if computed.by_bed or abs(computed.factor / suv_factor - 1) <= SUV_TOLERANCE:
        return Scale(suv_factor, source)
    warning = (
        f"Philips' factor to SUV (7053,xx00) is {suv_factor:g}, but its factor to Bq/mL (7053,xx09) with dose, weight "
        f"and times gives {computed.factor:.3g} (SUV x {computed.factor / suv_factor:.2f}): the factor to SUV is used"
    )
    return Scale(suv_factor, source, (warning,))
