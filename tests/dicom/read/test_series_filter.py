"""Images that consoles store in addition to CT and PET are refused with a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lib.dicom.read.header import header_of
from lib.dicom.read.series_filter import why_not
from tests.dicom.builders import instance

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
ENHANCED_CT, ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.130"
SAGITTAL, CORONAL = [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


def reason(modality: str, **attributes: Any) -> str | None:
    return why_not(header_of(instance(0, modality=modality, **attributes), "0.dcm").shared)


@pytest.mark.parametrize(
    ("modality", "attributes"),
    [
        ("CT", {}),
        ("CT", {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}),
        ("CT", {"RescaleType": "HU"}),
        ("CT", {"ImageType": None}),
        ("CT", {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}),
        ("PT", {}),
        ("PT", {"ImageType": ["DERIVED", "SECONDARY"]}),
        ("PT", {"CorrectedImage": None, "AttenuationCorrectionMethod": "measured, 0.096 cm-1"}),
        ("PT", {"SeriesType": ["WHOLE BODY", "IMAGE"]}),
        ("PT", {"NumberOfTimeSlices": 6}),  # GE writes the number of beds here
    ],
)
def test_ct_and_corrected_pet_slices_are_accepted(modality: str, attributes: dict[str, Any]) -> None:
    assert reason(modality, **attributes) is None


@pytest.mark.parametrize(
    ("modality", "attributes", "message"),
    [
        ("CT", {"SOPClassUID": SECONDARY_CAPTURE, "PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
         "a colour image (Secondary Capture Image Storage, RGB) stored as modality CT"),
        ("CT", {"PhotometricInterpretation": "PALETTE COLOR"}, "a colour image (CT Image Storage, PALETTE COLOR)"),
        ("CT", {"SOPClassUID": SECONDARY_CAPTURE}, "Secondary Capture Image Storage stored as modality CT"),
        ("CT", {"SOPClassUID": ENHANCED_PET}, "Enhanced PET Image Storage stored as modality CT, expected CT Image"),
        ("PT", {"SOPClassUID": ENHANCED_CT}, "Enhanced CT Image Storage stored as modality PT, expected Positron"),
        ("CT", {"NumberOfFrames": 2}, "multi-frame (CT Image Storage, 2 frames): export it as single-frame"),
        ("CT", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ("CT", {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "a projection (ImageType MIP)"),
        ("CT", {"ImageOrientationPatient": SAGITTAL}, "sagittal slices (90 degrees from axial)"),
        ("CT", {"ImageOrientationPatient": CORONAL}, "coronal slices (90 degrees from axial)"),
        ("CT", {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}, "oblique slices (37 degrees from axial)"),
        ("CT", {"ImageOrientationPatient": None}, "ImageOrientationPatient is missing"),
        ("CT", {"RescaleSlope": None}, "RescaleSlope is missing"),
        ("CT", {"RescaleType": "Z_EFF"}, "RescaleType Z_EFF, expected HU"),
        ("CT", {"Rows": None}, "Rows is missing: the file may be truncated"),
        ("PT", {"CorrectedImage": ["DECY", "SCAT"]}, "not attenuation-corrected: CorrectedImage lists DECY, SCAT"),
        ("PT", {"CorrectedImage": None}, "not attenuation-corrected: CorrectedImage lists nothing"),
        ("PT", {"CorrectedImage": ["NORM"], "AttenuationCorrectionMethod": "measured"}, "not attenuation-corrected"),
        ("PT", {"SeriesDescription": "WB MIP"}, "a maximum intensity projection (SeriesDescription says MIP)"),
        ("PT", {"SeriesType": ["STATIC", "REPROJECTION"]}, "a projection (SeriesType REPROJECTION)"),
        ("PT", {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "SYNTHETIC PET (cascade3)"},
         "synthetic PET"),
        ("CT", {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "SYNTHETIC CT"}, "synthetic CT"),
        ("SR", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"}, "SR (Comprehensive SR Storage): not a CT or PET"),
    ],
)  # fmt: skip
def test_other_images_are_refused_by_name(modality: str, attributes: dict[str, Any], message: str) -> None:
    assert message in (reason(modality, **attributes) or "")


def turned(degrees: float) -> list[float]:
    """Return ImageOrientationPatient of axial slices rotated in their plane."""
    c, s = float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))
    return [c, s, 0, -s, c, 0]


def leaning(degrees: float) -> list[float]:
    """Return ImageOrientationPatient of slices tilted forward."""
    return [1, 0, 0, 0, float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))]


@pytest.mark.parametrize("orientation", [turned(9.9), turned(99.9), turned(-9.9), turned(180), leaning(9.9)])
def test_ct_rotated_by_ten_degrees_is_accepted(orientation: list[float]) -> None:
    assert reason("CT", ImageOrientationPatient=orientation) is None


@pytest.mark.parametrize(
    ("orientation", "message"),
    [
        (turned(10.1), "rows or columns are rotated by 10.1 degrees from the patient's axes"),
        (turned(45), "rows or columns are rotated by 45.0 degrees"),
        (turned(100.2), "rows or columns are rotated by 10.2 degrees"),
        (leaning(10.1), "oblique slices (10 degrees from axial)"),
    ],
)
def test_ct_rotated_further_is_refused_with_its_angle(orientation: list[float], message: str) -> None:
    assert message in (reason("CT", ImageOrientationPatient=orientation) or "")


def test_pet_rotated_in_its_plane_is_accepted() -> None:
    assert reason("PT", ImageOrientationPatient=turned(45)) is None
