"""PET radionuclides: their names in headers, half-lives, and usual doses.

A header names the nuclide up to three times: by code, as text (the meaning of the code, the name of the
radiopharmaceutical), and by its half-life. They are compared; none is silently preferred.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from lib.dicom.instance_header import PetHeader
from lib.errors import DicomError, MissingAttributeError

SECONDS_PER_MINUTE = 60.0
HALF_LIFE_RANGE_S = (10.0, 1e8)  # up to three years; nuclides with a shorter half-life cannot be injected
UNNAMED_IN_MINUTES_BELOW_S = 7200.0  # longer half-lives in minutes resemble those of short-lived nuclides in seconds


@dataclass(frozen=True)
class Nuclide:
    """A positron emitter.

    Attributes:
        name: Such as F-18.
        half_life_s: Physical half-life (Laboratoire National Henri Becquerel, Table of Radionuclides; rounded values in
            headers differ by less than `tolerance`).
        codes: Codes of RadionuclideCodeSequence, SNOMED-RT and SNOMED CT (DICOM CID 4020).
        dose_mbq_per_kg: Range of doses in human studies.
        tolerance: Relative tolerance of the half-life.
    """

    name: str
    half_life_s: float
    codes: tuple[str, ...] = ()
    dose_mbq_per_kg: tuple[float, float] = (0.3, 20.0)
    tolerance: float = 0.01  # 0.7 % of SUV after one half-life

    @property
    def elements(self) -> tuple[str, str]:
        """Symbol and mass number: (F, 18)."""
        symbol, _, mass = self.name.partition("-")
        return symbol, mass

    def has_half_life(self, half_life_s: float) -> bool:
        """Return whether a half-life is this nuclide's."""
        return abs(half_life_s / self.half_life_s - 1) <= self.tolerance


NUCLIDES = (
    Nuclide("F-18", 6586.2, ("C-111A1", "77004003")),
    Nuclide("C-11", 1221.7, ("C-105A1", "40565003"), (0.5, 30.0)),
    Nuclide("N-13", 597.9, ("C-107A1", "21576001"), (1.0, 40.0)),
    Nuclide("O-15", 122.2, ("C-B1038", "129513004"), (2.0, 80.0)),
    Nuclide("Ga-68", 4062.6, ("C-131A3", "35337001")),
    Nuclide("Rb-82", 75.8, ("C-159A2", "79197006"), (2.0, 80.0), 0.02),
    Nuclide("Cu-64", 45721.0, ("C-127A2", "3932008")),
    Nuclide("Zr-89", 282276.0, ("C-168A4", "63360001"), (0.1, 10.0)),
    Nuclide("I-124", 360806.0, ("C-114A5", "40937006"), (0.1, 10.0)),
    Nuclide("Sc-44", 14292.0),
    Nuclide("Cu-60", 1422.0),
    Nuclide("Cu-61", 12020.0),
    Nuclide("Cu-62", 580.0),
    Nuclide("Ga-66", 34164.0),
    Nuclide("Ge-68", 23410000.0, ("C-128A2", "53315004"), (0.0001, 100.0)),
    Nuclide("Br-76", 58320.0),
    Nuclide("Y-86", 53060.0),
    Nuclide("Y-90", 230600.0, (), (1.0, 100.0)),
    Nuclide("Mn-52", 483100.0, (), (0.1, 10.0)),
    Nuclide("Tb-152", 63000.0),
    Nuclide("Ho-166", 96480.0, (), (1.0, 200.0)),
)
ANY_DOSE_MBQ_PER_KG = (0.1, 80.0)  # of an unknown nuclide
ELEMENTS = {"FLUORINE": "F", "CARBON": "C", "NITROGEN": "N", "OXYGEN": "O", "GALLIUM": "GA", "RUBIDIUM": "RB",
            "COPPER": "CU", "ZIRCONIUM": "ZR", "IODINE": "I", "SCANDIUM": "SC", "GERMANIUM": "GE", "BROMINE": "BR",
            "YTTRIUM": "Y", "MANGANESE": "MN", "TERBIUM": "TB", "HOLMIUM": "HO"}  # fmt: skip
F18_TRACERS = r"\bFDG\b|FLUORODEOXYGLUCOSE|FLUDEOXYGLUCOSE"  # many consoles name them without the nuclide


def known_nuclide(name: str) -> Nuclide | None:
    """Return the nuclide with a name such as F-18; None if it is unknown."""
    return next((nuclide for nuclide in NUCLIDES if nuclide.name == name), None)


@lru_cache(256)
def nuclide_in_text(text: str) -> Nuclide | None:
    """Return the nuclide named in a text, such as `^18^Fluorine`, `18F`, `F-18`, `[68Ga]DOTATATE`, `FDG`, or None."""
    text = re.sub(r"[\^\[\](){},;/_]", " ", text.upper())
    for element, symbol in ELEMENTS.items():
        text = text.replace(element, f" {symbol} ")
    for nuclide in NUCLIDES:
        symbol, mass = (part.upper() for part in nuclide.elements)
        if re.search(rf"(?<![A-Z0-9])(?:{symbol} ?-? ?{mass}|{mass} ?-? ?{symbol})(?![A-Z0-9])", text):
            return nuclide
    return known_nuclide("F-18") if re.search(F18_TRACERS, text) else None


def nuclide_of(pet: PetHeader) -> tuple[Nuclide | None, float, tuple[str, ...]]:
    """Return the nuclide (None if unknown), its half-life in seconds, and warnings.

    Raises:
        MissingAttributeError: Neither the half-life nor the nuclide is known.
        DicomError: Code, text and half-life contradict each other.
    """
    named = _named(pet)
    names = sorted({nuclide.name for nuclide in named.values()})
    listing = ", ".join(f"{source} {nuclide.name}" for source, nuclide in named.items())
    if not pet.half_life_s or pet.half_life_s <= 0:
        if len(names) != 1 or pet.half_life_s is not None or pet.malformed:
            raise MissingAttributeError(_no_half_life(pet, listing), attribute="RadionuclideHalfLife")
        nuclide = next(iter(named.values()))
        return nuclide, nuclide.half_life_s, ()
    half_life_s = pet.half_life_s
    low, high = HALF_LIFE_RANGE_S
    if not low <= half_life_s * SECONDS_PER_MINUTE or not half_life_s <= high:
        raise DicomError(
            f"RadionuclideHalfLife is {half_life_s:g} s, expected {low:g} to {high:g} s; correct the header"
        )
    fitting = [nuclide for nuclide in named.values() if nuclide.has_half_life(half_life_s)]
    if fitting:
        several = f"the header names several nuclides ({listing}); RadionuclideHalfLife {half_life_s:g} s decides"
        return fitting[0], half_life_s, (several,) if len(names) > 1 else ()
    short_lived = [nuclide for nuclide in NUCLIDES if nuclide.half_life_s < UNNAMED_IN_MINUTES_BELOW_S]
    in_minutes = _first_with(half_life_s * SECONDS_PER_MINUTE, named.values() or short_lived)
    if in_minutes is not None and not _first_with(half_life_s, NUCLIDES):
        seconds = half_life_s * SECONDS_PER_MINUTE
        return in_minutes, seconds, (f"RadionuclideHalfLife {half_life_s:g} s is read as minutes: {in_minutes.name}",)
    if named:
        expected = ", ".join(f"{nuclide.half_life_s:g} s ({nuclide.name})" for nuclide in dict.fromkeys(named.values()))
        raise DicomError(
            f"RadionuclideHalfLife is {half_life_s:g} s, but the header names {listing}: expected {expected}; "
            "correct the header"
        )
    nuclide_by_time = _first_with(half_life_s, NUCLIDES)
    if nuclide_by_time is not None:
        return nuclide_by_time, half_life_s, ()
    warning = f"RadionuclideHalfLife {half_life_s:g} s matches no known PET nuclide, and the header names none"
    return None, half_life_s, (warning,)


def _named(pet: PetHeader) -> dict[str, Nuclide]:
    by_code = next((nuclide for nuclide in NUCLIDES if pet.nuclide_code in nuclide.codes), None)
    found = {
        "RadionuclideCodeSequence": by_code,
        "its meaning": nuclide_in_text(pet.nuclide_meaning),
        "Radiopharmaceutical": nuclide_in_text(pet.radiopharmaceutical),
    }
    return {source: nuclide for source, nuclide in found.items() if nuclide is not None}


def _first_with(half_life_s: float, nuclides: Iterable[Nuclide]) -> Nuclide | None:
    return next((nuclide for nuclide in nuclides if nuclide.has_half_life(half_life_s)), None)


def _no_half_life(pet: PetHeader, listing: str) -> str:
    if pet.half_life_s is not None:
        return f"RadionuclideHalfLife is {pet.half_life_s:g} s, expected a time above 0; correct the header"
    named = f", and the header names {listing}" if listing else ""
    return f"{pet.absence_reason('RadionuclideHalfLife')}{named}"
