"""Scanner, body part and tracer from headers; a header without them is not an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.acquisition import AcquisitionDetails, read_acquisition_details
from lib.dicom.scan.scan import scan_folder
from lib.types import Series
from tests.dicom.builders import radiopharmaceutical, write_series


def series_of(folder: Path, **attributes: Any) -> Series:
    paths = write_series(folder, count=1, modality="PT", **attributes)
    return Series("1.2.3.1.3", "1.2.3.1", "P1", "PT", "1.2.3.1.9", "", tuple(paths))


def coded(meaning: str) -> Sequence:
    item = Dataset()
    item.CodeMeaning = meaning
    return Sequence([item])


def test_scanner_body_part_and_tracer_are_single_lines(tmp_path: Path) -> None:
    series = series_of(
        tmp_path, Manufacturer="ACME\r\nMedical", ManufacturerModelName=" Ring 7 ", BodyPartExamined="Extremity",
        RadiopharmaceuticalInformationSequence=radiopharmaceutical(Radiopharmaceutical="FDG"),
    )  # fmt: skip
    assert read_acquisition_details(series) == AcquisitionDetails("ACME Medical Ring 7", "EXTREMITY", "FDG")


@pytest.mark.parametrize(
    ("manufacturer", "model", "expected"),
    [("ACME", "Acme Ring", "Acme Ring"), ("ACME", None, "ACME"), (None, "Ring", "Ring"), (None, None, "")],
)
def test_manufacturer_is_not_repeated(tmp_path: Path, manufacturer: str, model: str, expected: str) -> None:
    assert (
        read_acquisition_details(series_of(tmp_path, Manufacturer=manufacturer, ManufacturerModelName=model)).scanner
        == expected
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"RadiopharmaceuticalCodeSequence": coded("Fluorodeoxyglucose")}, "Fluorodeoxyglucose"),
        ({"RadionuclideCodeSequence": coded("^18^Fluorine")}, "^18^Fluorine"),
        ({}, ""),
    ],
)
def test_tracer_from_its_code(tmp_path: Path, names: dict[str, Any], expected: str) -> None:
    series = series_of(tmp_path, RadiopharmaceuticalInformationSequence=radiopharmaceutical(**names))
    assert read_acquisition_details(series).tracer == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"PatientAge": "058Y"}, {"age_years": 58.0}),
        ({"PatientAge": "018M"}, {"age_years": 1.5}),
        ({"PatientAge": "102Y"}, {"age_years": 90.0}),  # the age of the very old identifies them
        ({"PatientAge": None}, {"age_years": None}),
        ({"PatientSex": "F", "ConvolutionKernel": ["Br38f", "3"]}, {"sex": "F", "kernel": "BR38F"}),
        ({"PatientSex": "", "ConvolutionKernel": None}, {"sex": "", "kernel": ""}),
        ({"ContrastBolusAgent": "Ultravist 370"}, {"contrast_agent": "yes"}),
        ({"ContrastBolusAgent": "NONE"}, {"contrast_agent": ""}),
    ],
)
def test_patient_and_protocol(tmp_path: Path, attributes: dict[str, Any], expected: dict[str, Any]) -> None:
    details = read_acquisition_details(series_of(tmp_path, **attributes))
    assert {name: getattr(details, name) for name in expected} == expected


def test_unreadable_file_gives_empty_details(tmp_path: Path) -> None:
    series = series_of(tmp_path)
    series.files[0].write_bytes(b"damaged")
    assert read_acquisition_details(series) == AcquisitionDetails()
    series.files[0].unlink()
    assert read_acquisition_details(series) == AcquisitionDetails()


def test_real_studies_are_of_limbs_under_one_scanner(sts_folder: Path) -> None:
    report = scan_folder(sts_folder / "STS_001")  # DICOM headers of the collection, as its README names them
    assert read_acquisition_details(report.usable("CT")[0].series) == AcquisitionDetails(
        "GE MEDICAL SYSTEMS Discovery ST", "EXTREMITY", "", kernel="SOFT", sex="M"
    )
    assert read_acquisition_details(report.usable("PT")[0].series).tracer == "FDG -- fluorodeoxyglucose"
