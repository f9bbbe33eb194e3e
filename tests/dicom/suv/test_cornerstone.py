"""Comparison with another program for the same headers: npm's @cornerstonejs/calculate-suv, used by OHIF.

The results are compared on the public reference objects and on a real series. The table explains differences; the
published values of the objects decide (test_reference_objects.py).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from lib.dicom.read.header import read_header
from lib.dicom.suv.body_weight import suv_scale
from tests.conftest import REPOSITORY, missing

SAME = 1e-6  # relative
# Its SUV over ours, or the error it raises, and why
DIFFERENCES: dict[str, tuple[str | float, str]] = {
    "DRO_2_1": (0.807429, "reads every GML as SUV by weight regardless of SUVType: here lean mass over weight"),
    "DRO_2_2": (0.9915, "the same: ideal mass over weight"),
    "DRO_2_3": ("Units has an invalid value: CM2ML", "knows no SUV by surface"),
    "DRO_3_0": (1e6, "takes a dose of 368.08 for Bq"),
    "DRO_3_1": (1.460637, "takes ADMIN for START: the decay of 3600 s too much"),
    "DRO_3_2": (1.015922, "counts to the first acquisition, 150 s after the reference time"),
    "DRO_3_4": ('CorrectedImage must contain "ATTN" and "DECY"', "knows no uncorrected decay"),
    "DRO_4_2": ("Decay time cannot be less than zero", "knows no scan over midnight by clock times"),
}


@pytest.fixture(scope="module")
def program() -> Path:
    """The installed program."""
    path = REPOSITORY / ".venv-cornerstone" / "suv.cjs"
    if not (path.parent / "installed").is_file():
        missing("cornerstone", ".venv-cornerstone is missing; create it with scripts/cornerstone-environment")
    return path


@pytest.fixture(scope="module")
def series(shared_data: Path) -> dict[str, list[Path]]:
    """The files of the reference objects and of one real series in Bq/mL."""
    folders = sorted(path for path in (shared_data.parent / "suv_dro").iterdir() if path.is_dir())
    found = {folder.name: sorted(folder.glob("*.dcm")) for folder in folders}
    return found | {"STS_001": sorted((shared_data / "sts_raw" / "STS_001" / "PET" / "image").glob("*.dcm"))}


def metadata(path: Path) -> dict[str, Any]:
    """Return the header in the format of that program: DICOM keywords and two private blocks."""
    dataset = dcmread(path, stop_before_pixels=True)
    (injection,) = dataset.RadiopharmaceuticalInformationSequence
    text_keywords = ("CorrectedImage", "Units", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime")
    injected = ("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime")
    numbers = ("PatientWeight", "PatientSize", "FrameReferenceTime", "ActualFrameDuration")
    isotope = ("RadionuclideHalfLife", "RadionuclideTotalDose")
    header: dict[str, Any] = {"DecayCorrection": dataset.DecayCorrection}
    header["PatientSex"] = dataset.PatientSex.replace(
        "O", "M"
    )  # the program refuses O, which does not affect SUV by weight
    header |= {keyword: _plain(dataset, keyword) for keyword in text_keywords if keyword in dataset}
    header |= {keyword: _plain(injection, keyword) for keyword in injected if keyword in injection}
    header |= {keyword: float(dataset[keyword].value) for keyword in numbers if keyword in dataset}
    header |= {keyword: float(injection[keyword].value) for keyword in isotope if keyword in injection}
    if (0x7053, 0x1000) in dataset or (0x7053, 0x1009) in dataset:
        names = {"SUVScaleFactor": 0x1000, "ActivityConcentrationScaleFactor": 0x1009}
        factors = {name: float(dataset[0x7053, at].value) for name, at in names.items() if (0x7053, at) in dataset}
        header["PhilipsPETPrivateGroup"] = factors
    if (0x0009, 0x100D) in dataset:
        header["GEPrivatePostInjectionDateTime"] = str(dataset[0x0009, 0x100D].value)
    return header


def _plain(dataset: Dataset, keyword: str) -> str | list[str]:
    value = dataset[keyword].value
    return str(value) if isinstance(value, str) else [str(part) for part in value]


def test_suv_agrees_with_cornerstone_except_for_known_differences(program: Path, series: dict[str, list[Path]]) -> None:
    request = json.dumps({name: [metadata(path) for path in files] for name, files in series.items()})
    run = subprocess.run(["node", program], input=request, capture_output=True, text=True, check=True, timeout=60)
    theirs = json.loads(run.stdout)
    assert set(theirs) == set(series)
    for name, files in series.items():
        headers = [read_header(path).shared for path in files]
        pet = headers[0].pet
        assert pet is not None
        scale = suv_scale(pet, {header.bed for header in headers if header.bed is not None})
        expected, why = DIFFERENCES.get(name, (1.0, "agrees"))
        if isinstance(expected, str):
            assert expected in theirs[name], why
        else:
            assert theirs[name] / scale.factor == pytest.approx(expected, rel=SAME), f"{name}: {why}"
