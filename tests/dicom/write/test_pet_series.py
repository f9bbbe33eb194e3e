"""The synthetic PET series: its headers, its study, and its reproducible UIDs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.copied_attributes import EMPTY_IF_UNKNOWN
from lib.dicom.write.plan import plan_series
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError
from lib.imaging.volume import Unit, Volume
from tests.dicom.builders import CT, FRAME, STUDY, write_series
from tests.dicom.write.synthetic_pets import MODEL, ct_in, pet_of, saved_by_pydicom, synthetic_of


def first_of(folder: Path, **attributes: Any) -> Dataset:
    return next(synthetic_of(ct_in(folder, **attributes)).datasets())


def test_synthetic_markers_for_programs(tmp_path: Path) -> None:
    pet = first_of(tmp_path)
    assert pet[0x0008001C].value == "YES"  # SyntheticData
    assert list(pet.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
    assert (pet.Modality, pet.SOPClassUID.name) == ("PT", "Positron Emission Tomography Image Storage")
    assert (pet.BurnedInAnnotation, pet.ContentQualification) == ("NO", "RESEARCH")
    equipment = pet.ContributingEquipmentSequence[0]
    purpose = equipment.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
    assert equipment.ManufacturerModelName == MODEL.model
    assert list(equipment.SoftwareVersions) == [MODEL.version, MODEL.checksum]
    assert pet.DerivationCodeSequence[0].CodingSchemeDesignator == "99CT2PET"


def test_synthetic_markers_for_users(tmp_path: Path) -> None:
    pet = first_of(tmp_path)
    assert pet.SeriesDescription.startswith("SYNTHETIC PET, RESEARCH ONLY, NOT FOR DIAGNOSIS")
    for text in (pet.ImageComments, pet.DerivationDescription):
        assert "SYNTHETIC" in text and "NOT FOR DIAGNOSIS" in text
    assert MODEL.checksum in pet.DerivationDescription


def test_units_are_suv_and_no_measurement_is_claimed(tmp_path: Path) -> None:
    pet = first_of(tmp_path)
    assert (pet.Units, pet.SUVType, pet.DecayCorrection) == ("GML", "BW", "NONE")
    assert len(pet.RadiopharmaceuticalInformationSequence) == 0
    assert not pet.CorrectedImage and not pet.AcquisitionTime
    assert pet.ActualFrameDuration == 0


def test_it_belongs_to_the_cts_patient_study_and_frame_of_reference(tmp_path: Path) -> None:
    pet = first_of(tmp_path, PatientWeight="71.0", PatientBirthDate="19500203", PatientSex="F", SeriesNumber=2)
    assert (pet.StudyInstanceUID, pet.FrameOfReferenceUID, pet.PatientID) == (STUDY, FRAME, "P1")
    assert (pet.PatientName, pet.PatientWeight, pet.PatientSex) == ("Secret^Patient^Name", 71, "F")
    assert (pet.SeriesDate, pet.SeriesTime, pet.SeriesNumber) == ("20200102", "101500.25", 9002)
    assert pet.Manufacturer == "ct2pet"  # not the scanner's


def test_slices_have_the_position_of_their_ct_slice_and_refer_to_it(tmp_path: Path) -> None:
    ct = ct_in(tmp_path)
    planned = replace(plan_series(ct, MODEL), reach=2)
    pets = list(planned.fill(pet_of(ct)).datasets())
    assert [float(pet.ImagePositionPatient[2]) for pet in pets] == [100, 103, 106, 109, 112]
    # slice k of the CT is instance k + 1 of its series: itself first, then up to two on either side
    sources = [[int(of.ReferencedSOPInstanceUID.split(".")[-1]) for of in pet.SourceImageSequence] for pet in pets]
    assert sources == [[1, 2, 3], [2, 1, 3, 4], [3, 1, 2, 4, 5], [4, 2, 3, 5], [5, 3, 4]]
    assert [(pet.InstanceNumber, pet.ImageIndex, pet.NumberOfSlices) for pet in pets] == [
        (k, k, 5) for k in range(1, 6)
    ]


def test_synthesis_is_reproducible(tmp_path: Path) -> None:
    ct = ct_in(tmp_path)
    shuffled = replace(ct, files=tuple(reversed(ct.files)))
    assert list(synthetic_of(ct).files()) == list(synthetic_of(shuffled).files())


@pytest.mark.parametrize("slab", [slice(0, 5), slice(1, 3), slice(4, 5)])
def test_files_of_a_slab_equal_those_of_the_series(tmp_path: Path, slab: slice) -> None:
    ct = ct_in(tmp_path)
    planned, pet = plan_series(ct, MODEL), pet_of(ct)
    assert list(planned.fill(pet.slab(slab)).files()) == list(planned.fill(pet).files())[slab]


@pytest.mark.parametrize(
    ("attributes", "reach"),
    [
        ({}, 0),
        ({"PatientName": "Größe^Jürgen", "SpecificCharacterSet": "ISO_IR 100", "StudyID": "1"}, 1),
        ({"SliceThickness": None, "SeriesNumber": None, "PatientPosition": "FFDL"}, 9),
        ({"SliceThickness": 2.5000000000001, "BodyPartExamined": "CHEST", "Laterality": "L"}, 2),
    ],
)
def test_a_file_is_its_dataset_as_pydicom_encodes_it(tmp_path: Path, attributes: dict[str, Any], reach: int) -> None:
    ct = ct_in(tmp_path, **attributes)
    planned = replace(plan_series(ct, MODEL), reach=reach, warning="odd: the CT is unlike the others")
    pet = pet_of(ct)
    pet.array[1] = 0
    pet.array[2] -= 5  # negative values: an intercept
    series = planned.fill(pet)
    assert list(series.files()) == saved_by_pydicom(series)


def test_uids_equal_those_of_earlier_versions(tmp_path: Path) -> None:
    """A series stored by an earlier version is not duplicated: these are the UIDs of version 0.1.0."""
    series = synthetic_of(ct_in(tmp_path, BodyPartExamined="CHEST", PatientIdentityRemoved="YES"))
    assert series.uid == "2.25.246908654522036879343388416416081006829"
    assert next(series.datasets()).SOPInstanceUID == "2.25.92120621196341669567722432116922441998"


def test_another_model_or_another_ct_is_another_series(tmp_path: Path) -> None:
    ct = ct_in(tmp_path / "ct")
    fewer = replace(ct, files=ct.files[:4])
    other = ct_in(tmp_path / "other", SeriesInstanceUID="1.2.3.1.7")
    series = [
        synthetic_of(ct), synthetic_of(ct, replace(MODEL, checksum="f" * 64)), synthetic_of(fewer), synthetic_of(other)
    ]  # fmt: skip
    assert len({one.uid for one in series}) == 4
    instances = [pet.SOPInstanceUID for one in series for pet in one.datasets()]
    assert len(set(instances)) == len(instances)
    assert CT not in {one.uid for one in series}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"FrameOfReferenceUID": None}, "FrameOfReferenceUID is missing, .* PET series on the CT's grid requires"),
        ({"FrameOfReferenceUID": "none"}, "FrameOfReferenceUID is not a UID"),
        ({"StudyInstanceUID": "1..3"}, "StudyInstanceUID is not a UID"),
        ({"FrameOfReferenceUID": "99999999"}, "FrameOfReferenceUID is not a UID"),
        ({"SeriesTime": None, "StudyTime": None}, "none of SeriesDate, AcquisitionDate.* is present with its time"),
    ],
)
def test_ct_with_missing_attributes_is_refused(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingAttributeError, match=message):
        plan_series(ct_in(tmp_path, **attributes), MODEL)


def test_a_missing_study_date_is_left_empty(tmp_path: Path) -> None:
    pet = first_of(tmp_path, StudyDate=None, StudyTime=None)
    assert (pet.StudyDate, pet.StudyTime, pet.SeriesDate) == ("", "", "20200102")


def test_the_date_and_time_of_a_series_come_from_one_moment(tmp_path: Path) -> None:
    when = {"SeriesTime": None, "AcquisitionDate": "20200103", "AcquisitionTime": "0830"}
    pet = first_of(tmp_path, **when)
    assert (pet.SeriesDate, pet.SeriesTime) == ("20200103", "0830")


def test_unknown_attributes_are_empty(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("PatientName", "PatientID", "StudyDate", "StudyTime"))
    pet = first_of(tmp_path, **nothing)
    assert not any(pet[keyword].value for keyword in EMPTY_IF_UNKNOWN)
    assert "PatientWeight" not in pet and "BodyPartExamined" not in pet


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pydicom warns as the broken CTs are written
@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({"StudyID": "seventeen letters"}, {"StudyID": ""}),
        ({"PatientSex": "X"}, {"PatientSex": ""}),
        ({"BodyPartExamined": "left leg"}, {"BodyPartExamined": None}),
        ({"PatientBirthDate": "19501332"}, {"PatientBirthDate": ""}),
        ({"PatientAge": "59"}, {"PatientAge": None}),
    ],
)
def test_invalid_values_are_not_copied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, attributes: dict[str, Any], kept: dict[str, Any]
) -> None:
    caplog.set_level("INFO")
    pet = first_of(tmp_path, **attributes)
    for keyword, value in kept.items():
        assert (pet[keyword].value or "" if keyword in pet else None) == value
    (keyword,) = attributes
    assert keyword in caplog.text and str(attributes[keyword]) not in caplog.text


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Größe^Jürgen"),
        ("ISO_IR 192", "Дое^Иван"),
        ("ISO_IR 144", "Дое^Иван"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ],
)
def test_name_is_preserved(tmp_path: Path, character_set: Any, name: str) -> None:
    pet = first_of(tmp_path, SpecificCharacterSet=character_set, PatientName=name)
    assert str(pet.PatientName) == name


@pytest.mark.parametrize(
    ("written", "declared", "read"), [("utf8", "ISO_IR 192", "Größe^Jürgen"), ("latin_1", "ISO_IR 100", "Größe^Jürgen")]
)
def test_name_without_character_set_keeps_its_bytes(tmp_path: Path, written: str, declared: str, read: str) -> None:
    paths = write_series(tmp_path, PatientName="X" * 14, StudyTime="1000")
    raw = read.encode(written)[:14].ljust(14)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"X" * 14, raw))
    pet = next(synthetic_of(scan_folder(tmp_path).usable("CT")[0].series).datasets())
    assert (pet.SpecificCharacterSet, str(pet.PatientName).encode(written)) == (declared, raw.strip())


def test_a_models_name_cannot_break_the_header(tmp_path: Path) -> None:
    ct = ct_in(tmp_path)
    pet = next(synthetic_of(ct, replace(MODEL, model="a\\b\n" + "ü" * 100)).datasets())
    assert pet.ManufacturerModelName == ("a?b?" + "?" * 100)[:64]
    assert len(pet.SeriesDescription) <= 64


@pytest.mark.parametrize(
    ("position", "lying", "gantry"), [("HFS", "supine", "headfirst"), ("FFP", "prone", "feet-first"), ("", "", "")]
)
def test_patient_orientation_is_copied_from_the_ct(tmp_path: Path, position: str, lying: str, gantry: str) -> None:
    pet = first_of(tmp_path, PatientPosition=position or None)
    if not position:
        assert len(pet.PatientOrientationCodeSequence) == len(pet.PatientGantryRelationshipCodeSequence) == 0
        return
    modifier = pet.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence
    assert (modifier[0].CodeMeaning, pet.PatientGantryRelationshipCodeSequence[0].CodeMeaning) == (lying, gantry)


def test_another_grid_or_unit_is_refused(tmp_path: Path) -> None:
    ct = ct_in(tmp_path)
    planned, pet = plan_series(ct, MODEL), pet_of(ct)
    coarse = pet.geometry.with_pixels(3, 4)
    with pytest.raises(UnsupportedSeriesError, match="expected the CT's grid"):
        planned.fill(Volume(np.zeros(coarse.shape, np.float32), coarse, Unit.SUV_BW))
    with pytest.raises(UnsupportedSeriesError, match="stored in SUVbw, found a volume in HU"):
        planned.fill(Volume(pet.array, pet.geometry, Unit.HU))


def test_a_file_that_changed_since_the_scan_is_named(tmp_path: Path) -> None:
    ct = ct_in(tmp_path)
    ct.files[2].write_bytes(b"damaged")
    with pytest.raises(DicomError, match=f"series {CT}: 002.dcm"):
        plan_series(ct, MODEL)


@pytest.mark.parametrize("tag", ["08001600", "08001800"], ids=["SOPClassUID", "SOPInstanceUID"])
@pytest.mark.parametrize("vr", [b"ZZ", b"FD", b"US"])
def test_a_uid_with_another_value_representation_is_read_as_a_uid(tmp_path: Path, tag: str, vr: bytes) -> None:
    ct = ct_in(tmp_path)
    expected = [(pet.SOPInstanceUID, pet.SourceImageSequence) for pet in synthetic_of(ct).datasets()]
    content, element = ct.files[2].read_bytes(), bytes.fromhex(tag) + b"UI"
    assert content.count(element) == 1
    ct.files[2].write_bytes(content.replace(element, bytes.fromhex(tag) + vr))
    assert [(pet.SOPInstanceUID, pet.SourceImageSequence) for pet in synthetic_of(ct).datasets()] == expected
