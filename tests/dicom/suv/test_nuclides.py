"""The nuclide and its half-life: comparison of code, text and seconds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lib.dicom.instance_header import PetHeader
from lib.dicom.suv.nuclides import NUCLIDES, nuclide_in_text, nuclide_of
from lib.errors import DicomError, MissingAttributeError

F18 = PetHeader(
    half_life_s=6586.2, nuclide_code="C-111A1", nuclide_meaning="^18^Fluorine", radiopharmaceutical="Fluorodeoxyglucose"
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("^18^Fluorine", "F-18"), ("18F", "F-18"), ("F-18", "F-18"), ("Fluorodeoxyglucose F^18^", "F-18"),
        ("FDG -- fluorodeoxyglucose", "F-18"), ("[18F]FDG", "F-18"), ("F18-FDG", "F-18"), ("Fluorine-18", "F-18"),
        ("^68^Gallium", "Ga-68"), ("68Ga-DOTATATE", "Ga-68"), ("Ga-68 PSMA-11", "Ga-68"),
        ("^89^Zirconium", "Zr-89"), ("89Zr-trastuzumab", "Zr-89"), ("^82^Rubidium", "Rb-82"), ("11C-choline", "C-11"),
        ("^124^Iodine", "I-124"), ("64Cu-DOTATATE", "Cu-64"), ("^68^Germanium", "Ge-68"), ("O-15 water", "O-15"),
    ],
)  # fmt: skip
def test_nuclide_in_text(text: str, name: str) -> None:
    nuclide = nuclide_in_text(text)
    assert nuclide is not None and nuclide.name == name


@pytest.mark.parametrize("text", ["", "Solution", "NaF", "PSMA-1007", "DCFPyL", "F-180", "118F"])
def test_text_without_a_nuclide(text: str) -> None:
    assert nuclide_in_text(text) is None


def test_nuclide_is_identified_by_half_life_alone() -> None:
    for nuclide in NUCLIDES:
        found, half_life_s, warnings = nuclide_of(PetHeader(half_life_s=nuclide.half_life_s))
        assert found is not None
        assert found.has_half_life(nuclide.half_life_s)
        assert (half_life_s, warnings) == (nuclide.half_life_s, ())


@pytest.mark.parametrize("half_life_s", [6586.2, 6588.0, 6600.0, 6584.04, 6521.0, 6651.0])  # within 1 %
def test_a_half_life_that_agrees_is_used_as_written(half_life_s: float) -> None:
    found, used, warnings = nuclide_of(replace(F18, half_life_s=half_life_s))
    assert found is not None and found.name == "F-18"
    assert (used, warnings) == (half_life_s, ())


@pytest.mark.parametrize("half_life_s", [4057.0, 6519.0, 6653.0, 3600.0])
def test_a_half_life_of_another_nuclide_is_refused(half_life_s: float) -> None:
    message = f"RadionuclideHalfLife is {half_life_s:g} s, but the header names RadionuclideCodeSequence F-18"
    with pytest.raises(DicomError, match=re.escape(message)):
        nuclide_of(replace(F18, half_life_s=half_life_s))


@pytest.mark.parametrize("header", [F18, PetHeader()])
def test_a_half_life_in_minutes_is_read_as_such_with_a_warning(header: PetHeader) -> None:
    found, half_life_s, warnings = nuclide_of(replace(header, half_life_s=109.77))
    assert found is not None and found.name == "F-18"
    assert half_life_s == pytest.approx(6586.2)
    assert warnings == ("RadionuclideHalfLife 109.77 s is read as minutes: F-18",)


def test_missing_half_life_is_taken_from_the_nuclide() -> None:
    assert nuclide_of(replace(F18, half_life_s=None))[1] == 6586.2
    with pytest.raises(MissingAttributeError, match=r"RadionuclideHalfLife is missing$"):
        nuclide_of(PetHeader())
    with pytest.raises(MissingAttributeError, match="RadionuclideHalfLife is 0 s, expected a time above 0"):
        nuclide_of(replace(F18, half_life_s=0.0))


def test_half_life_decides_between_two_nuclides_with_a_warning() -> None:
    both = replace(F18, radiopharmaceutical="68Ga-DOTATATE")
    found, _, warnings = nuclide_of(both)
    assert found is not None and found.name == "F-18"
    assert "names several nuclides" in warnings[0] and "Radiopharmaceutical Ga-68" in warnings[0]
    with pytest.raises(MissingAttributeError, match="RadionuclideHalfLife is missing, and the header names"):
        nuclide_of(replace(both, half_life_s=None))


def test_an_unknown_half_life_is_used_with_a_warning() -> None:
    found, half_life_s, warnings = nuclide_of(PetHeader(half_life_s=6000.0))
    assert (found, half_life_s) == (None, 6000.0)
    assert "6000 s matches no known PET nuclide" in warnings[0]
