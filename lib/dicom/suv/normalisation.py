"""Conversion of SUV normalised to lean mass, ideal mass or body surface to the body-weight SUV.

Formulas: Vácha et al. 2026, "Units = GML" and "Units = CM2ML" (after Sugawara; Du Bois for the surface). W is the
weight in kg, H the height in cm. For PatientSex O the mean of both sexes' values is used, as the manual advises.
"""

from __future__ import annotations

from collections.abc import Callable

from lib.dicom.instance_header import PetHeader
from lib.dicom.suv.dose import MAX_HEIGHT_M, Checked, weight_of
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

SIZE_RANGE_M = (0.2, 2.8)
CM_PER_M = 100.0
CM2_PER_G = 10.0  # SUV by weight in g/mL = SUV by surface in cm2/mL x W / (10 x surface in m2)

Formula = Callable[[float, float], float]  # weight in kg, height in cm -> mass in kg


def _janmahasatian(constant: float, slope: float) -> Formula:
    return lambda w, h: 9270 * w / (constant + slope * w / (h / CM_PER_M) ** 2)


MASS_KG: dict[str, dict[str, Formula]] = {
    "LBM": {"M": lambda w, h: 1.10 * w - 120 * (w / h) ** 2, "F": lambda w, h: 1.07 * w - 148 * (w / h) ** 2},
    "LBMJAMES128": {"M": lambda w, h: 1.10 * w - 128 * (w / h) ** 2, "F": lambda w, h: 1.07 * w - 148 * (w / h) ** 2},
    "LBMJANMA": {"M": _janmahasatian(6680, 216), "F": _janmahasatian(8780, 244)},
    "IBW": {"M": lambda _, h: 48.0 + 1.06 * (h - 152), "F": lambda _, h: 45.5 + 0.91 * (h - 152)},
}


def to_body_weight(pet: PetHeader) -> Checked:
    """Return the factor from this series' rescaled values, which are SUV already, to the body-weight SUV.

    Raises:
        UnsupportedSeriesError: SUVType is not a DICOM term or does not match Units.
        MissingAttributeError: Weight, size or sex is required by SUVType and missing.
        DicomError: Values are not plausible.
    """
    suv_type = pet.suv_type
    if pet.units == "CM2ML":
        if suv_type not in ("", "BSA"):
            raise UnsupportedSeriesError(f"Units CM2ML with SUVType {suv_type}, expected BSA; correct the header")
        weight, size_cm = weight_of(pet), _size_cm(pet)
        surface_m2 = 0.007184 * size_cm.value**0.725 * weight.value**0.425
        return Checked(weight.value / (CM2_PER_G * surface_m2), weight.warnings + size_cm.warnings)
    if suv_type in ("", "BW"):
        return Checked(1.0)
    formulas = MASS_KG.get(suv_type)
    if formulas is None:
        known = ", ".join(("BW", *MASS_KG))
        raise UnsupportedSeriesError(f"Units GML with SUVType {suv_type}, expected one of {known}; correct the header")
    weight, size_cm = weight_of(pet), _size_cm(pet)
    masses = [formulas[sex](weight.value, size_cm.value) for sex in _sexes(pet, suv_type)]
    mass_kg = sum(masses) / len(masses)
    if min(masses) <= 0:
        raise DicomError(
            f"SUVType {suv_type}: a weight of {weight.value:g} kg and a height of {size_cm.value:g} cm give a mass of "
            f"{mass_kg:.1f} kg; correct the header"
        )
    return Checked(weight.value / mass_kg, weight.warnings + size_cm.warnings)


def _size_cm(pet: PetHeader) -> Checked:
    size_m = pet.size_m
    if not size_m:
        raise MissingAttributeError(
            f"{pet.absence_reason('PatientSize')}, required by SUVType {pet.suv_type or 'BSA'}", attribute="PatientSize"
        )
    low, high = SIZE_RANGE_M
    if size_m > MAX_HEIGHT_M and low <= size_m / CM_PER_M <= high:
        return Checked(size_m, (f"PatientSize is {size_m:g} m, too much for a patient: read as centimetres",))
    if not low <= size_m <= high:
        raise DicomError(f"PatientSize is {size_m:g} m, expected {low:g} to {high:g} m; correct the header")
    return Checked(size_m * CM_PER_M)


def _sexes(pet: PetHeader, suv_type: str) -> tuple[str, ...]:
    if pet.sex in ("M", "F"):
        return (pet.sex,)
    if pet.sex == "O":
        return ("M", "F")
    found = f"PatientSex is {pet.sex!r}" if pet.sex else pet.absence_reason("PatientSex")
    raise MissingAttributeError(f"{found}, expected M, F or O, required by SUVType {suv_type}", attribute="PatientSex")
