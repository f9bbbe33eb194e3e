"""From a PET's stored numbers to Bq/mL and to the body-weight SUV. Pure functions of the header; nothing is guessed.

The rules are those of Vácha et al. 2026, "Comprehensive Manual for SUV Computation and Digital Reference Objects for
its Verification"; its 17 objects are tests. What a header says twice (dose and weight, nuclide and half-life, times)
is compared; what cannot be reconciled is refused, what can is used with a warning that names both values.
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

SLICES_DISAGREE = "its slices disagree about units, weight, dose or times; expected one answer for the whole series"
NOT_QUANTITATIVE = {
    "PROPCNTS": "numbers proportional to counts",
    "PROPCPS": "numbers proportional to counts per second, usually not attenuation-corrected",
    "CPS": "counts per second, which the header does not calibrate",
    "1CM": "an attenuation map",
}


@dataclass(frozen=True)
class Scale:
    """What rescaled PET numbers are multiplied by, how that came about, and what a reader should know.

    Attributes:
        factor: Of every slice that is not of a bed in `by_bed`.
        by_bed: Of the slices of each bed, where beds differ (DecayCorrection NONE).
    """

    factor: float
    source: str
    warnings: tuple[str, ...] = ()
    by_bed: Mapping[BedHeader, float] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, bed: BedHeader | None) -> float:
        """Return the factor of the slices of a bed."""
        return self.factor if bed is None else self.by_bed.get(bed, self.factor)


def suv_scale(pet: PetHeader, beds: Iterable[BedHeader]) -> Scale:
    """Return what makes SUVbw of this series' rescaled numbers.

    Raises:
        MissingAttributeError: The header lacks the weight, the dose or a time.
        UnsupportedSeriesError: Units or an SUV type without a way to SUVbw.
        DicomError: Values that cannot be, or that contradict one another.
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
    """Return what makes Bq/mL of this series' rescaled numbers.

    Raises:
        UnsupportedSeriesError: Units without a way to Bq/mL.
        MissingAttributeError: Units are missing, or Philips' factors are.
    """
    if pet.units == "BQML":
        warning = f"Units BQML with SUVType {pet.suv_type}, which goes with SUV: read as Bq/mL"
        return Scale(1.0, "BQML", (warning,) if pet.suv_type else ())
    if pet.units == "CNTS":
        _refuse_negative(pet)
        if not pet.philips_activity_factor:
            lost = "(7053,xx09) is" if pet.philips_suv_factor else "(7053,xx00) SUV and (7053,xx09) Bq/mL are"
            undelivered = "not in the metadata of the PACS" if pet.undelivered else "missing"
            raise MissingAttributeError(
                f"Units CNTS (counts), and Philips' private {lost} {undelivered}; export it in Bq/mL"
            )
        return Scale(pet.philips_activity_factor, "CNTS -> BQML (Philips factor)")
    if not pet.units:
        raise MissingAttributeError(pet.absence_reason("Units"))
    what = f" ({NOT_QUANTITATIVE[pet.units]})" if pet.units in NOT_QUANTITATIVE else ""
    raise UnsupportedSeriesError(f"Units {pet.units}{what}, expected BQML, GML, CM2ML or CNTS; export it in Bq/mL")


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
        if pet.units in ("GML", "CM2ML"):
            raise
        activity_scale(pet)  # raises where not even Bq/mL can be had
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
        MappingProxyType({bed: of_full_dose / left for bed, left in decay.remaining_by_bed.items()}),
    )


def _refuse_negative(pet: PetHeader) -> None:
    for name, factor in (("00", pet.philips_suv_factor), ("09", pet.philips_activity_factor)):
        if factor is not None and factor < 0:
            raise DicomError(f"Philips' private factor (7053,xx{name}) is {factor:g}, expected above 0")


def _nuclide(pet: PetHeader) -> Nuclide | None:
    """Return the nuclide; None where the header does not tell, which only a correction by time must know."""
    try:
        return nuclide_of(pet)[0]
    except DicomError:
        if pet.decay_correction == "ADMIN":
            return None
        raise


def _philips_scale(pet: PetHeader, suv_factor: float, beds: tuple[BedHeader, ...]) -> Scale:
    """Return Philips' own factor to SUV, compared with the one by its factor to Bq/mL where that can be had."""
    source = "CNTS -> SUVbw (Philips factor)"
    if not pet.philips_activity_factor:
        return Scale(suv_factor, source)
    try:
        computed = _activity_to_suv(pet, beds)
    except DicomError:
        return Scale(suv_factor, source)  # the console knew what the header lacks
    if computed.by_bed or abs(computed.factor / suv_factor - 1) <= SUV_TOLERANCE:
        return Scale(suv_factor, source)
    warning = (
        f"Philips' factor to SUV (7053,xx00) is {suv_factor:g}, but its factor to Bq/mL (7053,xx09) with dose, weight "
        f"and times gives {computed.factor:.3g} (SUV x {computed.factor / suv_factor:.2f}): the factor to SUV is used"
    )
    return Scale(suv_factor, source, (warning,))
