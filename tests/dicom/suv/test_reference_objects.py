"""The 17 public digital reference objects for SUV: minimum, median and maximum in the mask are 0.20, 1.00 and 4.00.

Source: Vácha M, Hofheinz F, Braune A, Löck S, Zwanenburg A (2026), oncoray/suv_computation, CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.read.volume import read_pet
from lib.dicom.scan.scan import scan_folder
from tests.conftest import missing

OBJECTS = {
    "DRO_0_0": "BQML, START", "DRO_1_0": "a rescale slope a slice", "DRO_2_1": "LBMJAMES128", "DRO_2_0": "GML",
    "DRO_2_2": "IBW, sex O", "DRO_2_3": "BSA", "DRO_2_4": "Philips' SUV factor", "DRO_2_5": "Philips' activity factor",
    "DRO_3_0": "dose in MBq", "DRO_3_1": "ADMIN", "DRO_3_2": "SeriesTime after the acquisition",
    "DRO_3_3": "GE's private scan time", "DRO_3_4": "NONE", "DRO_4_0": "injection by date and time only",
    "DRO_4_1": "injection by time only", "DRO_4_2": "over midnight", "DRO_5_0": "Ga-68",
}  # fmt: skip
WARNED = {
    "DRO_3_0": "read as MBq",
    "DRO_3_2": "stored again later",
    "DRO_3_3": "decay correction time 2025-01-01 11:00",
}
# Its voxels hold 5, 26 and 105 hundredths of cm2/mL, cut off from 5.28, 26.4 and 105.6: no factor makes 0.20, 1.00 and
# 4.00 of them. One hundredth is 0.038 SUVbw.
COARSE = {"DRO_2_3": 0.038}
EXACT = 0.005  # two decimals


@pytest.fixture(scope="module")
def objects(request: pytest.FixtureRequest) -> Path:
    """The folder of the objects."""
    folder = Path(request.getfixturevalue("shared_data")).parent / "suv_dro"
    if not folder.is_dir():
        missing("realdata", "../shared/suv_dro is missing")
    return folder


def test_every_object_is_tested(objects: Path) -> None:
    assert {path.name for path in objects.iterdir() if path.is_dir()} == set(OBJECTS)


@pytest.mark.parametrize("name", OBJECTS)
def test_minimum_median_and_maximum_equal_published_values(name: str, objects: Path) -> None:
    (found,) = scan_folder(objects / name).series
    suv_bw = read_pet(found.series).array
    inside = suv_bw[sitk.GetArrayFromImage(sitk.ReadImage(str(objects / "DRO_mask.nii.gz"))) > 0]
    measured = (float(inside.min()), float(np.median(inside)), float(inside.max()))
    assert measured == pytest.approx((0.2, 1.0, 4.0), abs=COARSE.get(name, EXACT))
    expected = WARNED.get(name)
    assert (found.warnings == ()) if expected is None else (expected in found.warnings[0])
