"""Patient weight and injected dose in DICOM's units, with plausibility checks.

Both are entered manually. A value in another unit (g for kg; MBq, kBq or mCi for Bq) is converted, with a warning, if
exactly one unit gives a plausible dose; if several do, the series is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib.dicom.instance_header import PetHeader
from lib.dicom.suv.nuclides import ANY_DOSE_MBQ_PER_KG, Nuclide
from lib.errors import DicomError, MissingAttributeError

GRAMS_PER_KG = 1000.0
WEIGHT_RANGE_KG = (0.01, 700.0)  # a mouse to the heaviest patient known
WEIGHT_IN_GRAMS_ABOVE = 1000.0  # Vácha et al. 2026, "Patient's weight"
MAX_HEIGHT_M = 3.0  # a larger PatientSize is in centimetres or contains the weight
ANIMAL_BELOW_KG = 2.0
ANIMAL_DOSE_MBQ_PER_KG = (1.0, 3000.0)  # 0.2 to 10 MBq for a mouse or a rat
BQ_PER_MBQ = 1e6
UNITS_BQ = {"kBq": 1e3, "MBq": 1e6, "mCi": 3.7e7}
USUAL, POSSIBLE = 1.0, 2.0  # a dose outside the usual range by at most this factor is used with a warning


@dataclass(frozen=True)
class Checked:
    """A value of the header in DICOM's unit, and warnings for users."""

    value: float
    warnings: tuple[str, ...] = ()


def weight_of(pet: PetHeader) -> Checked:
    """Return the patient's weight in kg.

    Raises:
        MissingAttributeError: The weight is missing, malformed or not provided by the PACS.
        DicomError: The weight is not plausible.
    """
    weight_kg = pet.weight_kg
    if not weight_kg:
        raise MissingAttributeError(pet.absence_reason("PatientWeight"), attribute="PatientWeight")
    low, high = WEIGHT_RANGE_KG
    if weight_kg < MAX_HEIGHT_M and pet.size_m is not None and pet.size_m > MAX_HEIGHT_M:
        raise DicomError(
            f"PatientWeight is {weight_kg:g} kg and PatientSize {pet.size_m:g} m: exchanged? Correct the header"
        )
    if weight_kg > WEIGHT_IN_GRAMS_ABOVE and weight_kg / GRAMS_PER_KG <= high:
        return Checked(
            weight_kg / GRAMS_PER_KG, (f"PatientWeight is {weight_kg:g} kg, too much for a patient: read as grams",)
        )
    if not low <= weight_kg <= high:
        raise DicomError(f"PatientWeight is {weight_kg:g} kg, expected {low:g} to {high:g} kg; correct the header")
    return Checked(weight_kg)


def dose_of(pet: PetHeader, nuclide: Nuclide | None, *, weight_kg: float) -> Checked:
    """Return the injected dose in Bq.

    Raises:
        MissingAttributeError: The dose is missing, malformed or not provided by the PACS.
        DicomError: The dose is not plausible for this weight in any unit, or is plausible in several.
    """
    dose = pet.dose_bq
    if not dose or dose < 0:
        raise MissingAttributeError(pet.absence_reason("RadionuclideTotalDose"), attribute="RadionuclideTotalDose")
    low, high = _usual_mbq_per_kg(nuclide, weight_kg)
    finding = (
        f"RadionuclideTotalDose is {dose:g} Bq, {dose / BQ_PER_MBQ / weight_kg:.3g} MBq/kg for {weight_kg:g} kg; "
        f"expected {low:g} to {high:g} MBq/kg{f' of {nuclide.name}' if nuclide else ''}"
    )
    if _fits(dose, weight_kg, low, high, times=USUAL):
        return Checked(dose)
    if _fits(dose, weight_kg, low, high, times=POSSIBLE):
        return Checked(dose, (f"{finding}: check dose and weight",))
    readings = {unit: dose * bq for unit, bq in UNITS_BQ.items() if _fits(dose * bq, weight_kg, low, high, times=USUAL)}
    if len(readings) == 1:
        unit, dose_bq = next(iter(readings.items()))
        return Checked(dose_bq, (f"{finding}: read as {unit}; correct the header",))
    either = f" ({' or '.join(readings)} would both be plausible)" if readings else ""
    raise DicomError(f"{finding}{either}; correct the header")


def _usual_mbq_per_kg(nuclide: Nuclide | None, weight_kg: float) -> tuple[float, float]:
    if weight_kg < ANIMAL_BELOW_KG:
        return ANIMAL_DOSE_MBQ_PER_KG
    return ANY_DOSE_MBQ_PER_KG if nuclide is None else nuclide.dose_mbq_per_kg


def _fits(dose_bq: float, weight_kg: float, low: float, high: float, *, times: float) -> bool:
    return low / times <= dose_bq / BQ_PER_MBQ / weight_kg <= high * times
