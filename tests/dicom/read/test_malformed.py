"""Missing, malformed and undelivered attributes; unambiguous invalid values are read with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from lib.dicom.instance_header import InstanceHeader
from lib.dicom.read.header import header_of, read_header
from lib.dicom.read.series_filter import why_not
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from tests.dicom.builders import instance, radiopharmaceutical, write_series


def only(root: Path) -> ScannedSeries:
    (series,) = scan_folder(root).series
    return series


def write_raw(folder: Path, values: dict[str, str], *, modality: str = "PT", **attributes: Any) -> None:
    """Write a series with raw text that pydicom would refuse; `injection.X` refers to the injection."""
    folder.mkdir(exist_ok=True)
    for k in range(5):
        dataset = instance(k, modality=modality, **attributes)
        for name, text in values.items():
            inside, _, keyword = name.rpartition(".")
            holder = dataset.RadiopharmaceuticalInformationSequence[0] if inside else dataset
            content = text.encode().ljust(len(text) + len(text) % 2)
            holder[keyword] = RawDataElement(Tag(keyword), "DS", len(content), content, 0, False, True)
        dataset.save_as(folder / f"{k}.dcm", write_like_original=False)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("PatientWeight", "88,7", "PatientWeight '88,7' contains a decimal comma: read as 88.7"),
        ("PatientWeight", "88.7 kg", "PatientWeight '88.7 kg' contains its unit kg: read as 88.7"),
        ("injection.RadionuclideTotalDose", "4,0E+08",
         "RadionuclideTotalDose '4,0E+08' contains a decimal comma: read as 400000000"),
        ("PixelSpacing", "2,0\\1,5", "PixelSpacing '2,0\\\\1,5' contains a decimal comma: read as 2\\1.5"),
        ("RescaleSlope", "1,5", "RescaleSlope contains a decimal comma and is read accordingly"),
        ("SeriesDate", "2020-01-02", "SeriesDate '2020-01-02' contains dashes or slashes: read as 20200102"),
        ("SeriesTime", "9:40:00", "SeriesTime '9:40:00' contains a clock's or ISO 8601's signs: read as 094000"),
    ],
)  # fmt: skip
def test_unambiguous_invalid_value_is_read_with_a_warning(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_raw(tmp_path, {name: text}, AcquisitionTime=None)
    found = only(tmp_path)
    assert found.is_usable
    assert message in found.warnings


def test_decimal_comma_is_read_as_decimal_point(tmp_path: Path) -> None:
    write_raw(tmp_path / "comma", {"PatientWeight": "88,7", "RescaleSlope": "1,5"})
    write_series(tmp_path / "point", modality="PT", PatientWeight=88.7, RescaleSlope=1.5)
    a, b = (read_pet(only(tmp_path / name).series) for name in ("comma", "point"))
    assert (a.array == b.array).all() and a.array.max() > 0


def test_equal_values_in_different_formats_agree(tmp_path: Path) -> None:
    write_raw(tmp_path, {"PatientWeight": "88,7"})
    instance(2, modality="PT", PatientWeight=88.7).save_as(tmp_path / "2.dcm", write_like_original=False)
    found = only(tmp_path)
    assert found.has_suv and "PatientWeight '88,7' contains a decimal comma: read as 88.7" in found.warnings


def test_position_with_commas_gives_one_warning(tmp_path: Path) -> None:
    for k in range(5):
        write_raw(tmp_path / f"{k}", {"ImagePositionPatient": f"0,5\\1,5\\{3 * k},0"}, modality="CT")
        for other in set(range(5)) - {k}:
            (tmp_path / f"{k}" / f"{other}.dcm").unlink()
    found = only(tmp_path)
    assert found.positions_mm == (0, 3, 6, 9, 12)
    assert found.warnings == ("ImagePositionPatient contains a decimal comma and is read accordingly",)


@pytest.mark.parametrize(
    ("values", "attributes", "suv"),
    [
        ({}, {"PatientWeight": None}, "Bq/mL only: PatientWeight is missing"),
        ({"PatientWeight": " "}, {}, "Bq/mL only: PatientWeight is missing"),
    ],
)
def test_what_is_empty_is_missing(tmp_path: Path, values: dict[str, str], attributes: dict[str, Any], suv: str) -> None:
    write_raw(tmp_path, values, **attributes)
    assert only(tmp_path).suv == suv


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PatientWeight", "1,024"),
        ("PatientWeight", "88.7 lb"),
        ("PatientWeight", "70\\71"),
        ("PatientSize", "1.7.5"),
        ("injection.RadionuclideTotalDose", "13.006 mCi"),
        ("injection.RadionuclideHalfLife", "long"),
        ("injection.RadiopharmaceuticalStartTime", "240000"),
        ("injection.RadiopharmaceuticalStartDateTime", "15.01.2024 10:00"),
        ("SeriesDate", "15.01.2024"),
        ("SeriesTime", "250000"),
    ],
)
def test_suv_computation_reports_malformed_attributes(tmp_path: Path, name: str, text: str) -> None:
    write_raw(tmp_path, {name: text})
    pet = read_header(tmp_path / "0.dcm").shared.pet
    keyword = name.rpartition(".")[2]
    assert pet is not None and (keyword, text) in pet.malformed
    assert pet.absence_reason(keyword) == f"{keyword} {text!r} is malformed"
    assert pet.absence_reason("PatientSex") == "PatientSex is missing"


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("AcquisitionTime", "24:00:00"),
        ("FrameReferenceTime", "1,500"),
        ("DecayFactor", "x"),
        ("AcquisitionDate", "2020"),
    ],
)
def test_bed_header_reports_malformed_attributes(tmp_path: Path, keyword: str, text: str) -> None:
    write_raw(tmp_path, {keyword: text})
    bed = read_header(tmp_path / "0.dcm").shared.bed
    assert bed is not None and bed.absence_reason(keyword) == f"{keyword} {text!r} is malformed"


@pytest.mark.parametrize(
    ("keyword", "text", "message"),
    [
        ("PixelSpacing", "1,600\\1,600", r"PixelSpacing '1,600\\1,600' is malformed; slices have no position"),
        ("PixelSpacing", "2.0", "PixelSpacing '2.0' is malformed; slices have no position"),
        ("PixelSpacing", "0\\0", "PixelSpacing (0.0, 0.0) mm, expected two numbers above 0"),
        ("ImagePositionPatient", "a\\b\\c", r"ImagePositionPatient 'a\\b\\c' is malformed; slices have no position"),
        ("ImageOrientationPatient", "1\\0\\0", r"ImageOrientationPatient '1\\0\\0' is malformed"),
        ("RescaleSlope", "1,000", "RescaleSlope '1,000' is malformed: stored values cannot be converted to HU"),
        ("RescaleIntercept", "-1,024", "RescaleIntercept '-1,024' is malformed: stored values cannot be converted"),
    ],
)
def test_geometry_and_rescaling_report_malformed_attributes(
    tmp_path: Path, keyword: str, text: str, message: str
) -> None:
    write_raw(tmp_path, {keyword: text}, modality="CT")
    assert message.replace("\\\\", "\\") in (only(tmp_path).reason or "").replace("\\\\", "\\")


def test_malformed_slices_are_named_with_the_gap(tmp_path: Path) -> None:
    write_raw(tmp_path, {"RescaleIntercept": "-1,024"}, modality="CT")
    for k in (0, 1, 3, 4):
        instance(k).save_as(tmp_path / f"{k}.dcm", write_like_original=False)
    reason = only(tmp_path).reason or ""
    assert "gap: no slice between" in reason and "1 instance(s) ignored: RescaleIntercept '-1,024' is mal" in reason


@pytest.mark.parametrize(
    ("modality", "attributes", "message"),
    [
        ("CT", {"RescaleIntercept": None}, "RescaleIntercept is missing: stored values cannot be converted to HU"),
        ("CT", {"RescaleIntercept": ""}, "RescaleIntercept is missing"),
        ("CT", {"RescaleIntercept": 0}, None),
        ("PT", {"RescaleIntercept": None}, None),
        ("PT", {"RescaleIntercept": ""}, None),
        ("PT", {"RescaleSlope": 0}, "RescaleSlope is 0: stored values cannot be converted to Bq/mL"),
        ("CT", {"RescaleSlope": 0}, "RescaleSlope is 0: stored values cannot be converted to HU"),
        ("PT", {"RescaleSlope": -1}, "RescaleSlope is below 0"),
        ("PT", {"RescaleSlope": 1e-6}, None),
    ],
)
def test_required_rescale_attributes(modality: str, attributes: dict[str, Any], message: str | None) -> None:
    reason = why_not(header_of(instance(0, modality=modality, **attributes), "0.dcm").shared)
    assert reason is None if message is None else message in (reason or "")


def test_a_pet_with_a_malformed_intercept_is_refused(tmp_path: Path) -> None:
    write_raw(tmp_path, {"RescaleIntercept": "none"})
    assert "RescaleIntercept 'none' is malformed: stored values cannot be converted to Bq/mL" in (
        only(tmp_path).reason or ""
    )


def test_a_modality_lut_instead_of_a_slope_is_named() -> None:
    dataset = instance(0, RescaleSlope=None, RescaleIntercept=None)
    dataset.ModalityLUTSequence = radiopharmaceutical()
    assert "ModalityLUTSequence, a table instead of" in (why_not(header_of(dataset, "0.dcm").shared) or "")


def test_an_intercept_with_a_comma_is_that_of_the_pixels(tmp_path: Path) -> None:
    write_raw(tmp_path, {"RescaleIntercept": "-1024,0"}, modality="CT")
    found = only(tmp_path)
    assert read_ct(found.series).array.min() == -1024.0
    assert "RescaleIntercept contains a decimal comma and is read accordingly" in found.warnings


def test_malformed_attributes_are_stored_in_the_index(tmp_path: Path) -> None:
    write_raw(tmp_path / "files", {"PatientWeight": "1,024", "PatientSize": "1,75", "FrameReferenceTime": "x"})
    index = HeaderIndex(tmp_path / "index.sqlite")
    (fresh,) = scan_folder(tmp_path / "files", index=index).series
    known = index.known(str(tmp_path / "files"))
    (again,) = scan_folder(tmp_path / "files", index=index).series
    (header, *_) = known["0.dcm"].content
    assert isinstance(header, InstanceHeader) and header.shared == read_header(header.path).shared
    assert again.warnings == fresh.warnings
    assert "PatientSize '1,75' contains a decimal comma: read as 1.75" in again.warnings


def test_malformed_value_is_shown_short_and_without_names(tmp_path: Path) -> None:
    write_raw(tmp_path / "name", {"PatientWeight": "Secret^Patient^Name"})
    write_raw(tmp_path / "long", {"PatientWeight": "9" * 20 + "," * 60})
    assert "Secret" not in repr(scan_folder(tmp_path / "name"))
    assert only(tmp_path / "long").is_usable
    pet = read_header(tmp_path / "long" / "0.dcm").shared.pet
    assert pet is not None and pet.malformed == (("PatientWeight", "9" * 20 + "," * 20),)
