"""Headers of old and unusual files are read tolerantly; damaged files give a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from lib.dicom.read.header import moment_of, read_header
from lib.errors import DicomError
from tests.dicom.builders import CT, CT_CLASS, FRAME, STUDY, instance, radiopharmaceutical, write_series


def write(tmp_path: Path, dataset: Dataset) -> Path:
    path = tmp_path / "one.dcm"
    dataset.save_as(path, write_like_original=False)
    return path


def test_a_ct_header(tmp_path: Path) -> None:
    header = read_header(write(tmp_path, instance(2, AcquisitionNumber=7, RescaleType="HU")))
    shared = header.shared
    assert (header.sop_instance_uid, header.position_mm) == (f"{CT}.3", (-10.0, -20.0, 106.0))
    assert (shared.study_instance_uid, shared.series_instance_uid, shared.frame_of_reference_uid) == (STUDY, CT, FRAME)
    assert (shared.sop_class_uid, shared.modality, shared.image_type) == (
        CT_CLASS,
        "CT",
        ("ORIGINAL", "PRIMARY", "AXIAL"),
    )
    assert (shared.rows, shared.columns, shared.pixel_spacing_mm) == (6, 8, (2.0, 1.5))
    assert (shared.acquisition_number, shared.rescale_type, shared.has_rescale) == ("7", "HU", True)
    assert shared.pet is None and shared.bed is None


def test_a_pet_header(tmp_path: Path) -> None:
    header = read_header(write(tmp_path, instance(0, modality="PT", FrameReferenceTime=1500, DecayFactor=1.25)))
    pet, bed = header.shared.pet, header.shared.bed
    assert pet is not None and bed is not None
    assert (pet.units, pet.decay_correction, pet.corrected_image) == ("BQML", "START", ("DECY", "ATTN", "SCAT"))
    assert (pet.weight_kg, pet.dose_bq, pet.half_life_s, pet.injection_time) == (50.0, 4e8, 6000.0, "100000")
    assert (bed.frame_reference_time_s, bed.decay_factor) == (1.5, 1.25)


def test_patient_name_is_not_stored(tmp_path: Path) -> None:
    assert "Secret" not in repr(read_header(write(tmp_path, instance(0))))


def test_an_old_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    dataset = instance(0)
    del dataset.file_meta
    dataset.preamble = None
    dataset.is_implicit_VR = True
    path = tmp_path / "old"
    dataset.save_as(path, write_like_original=True)
    assert read_header(path).shared.series_instance_uid == CT


def test_text_in_japanese_is_decoded(tmp_path: Path) -> None:
    dataset = instance(0, SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="胸部", PatientID="患者1")
    shared = read_header(write(tmp_path, dataset)).shared
    assert (shared.series_description, shared.patient_id) == ("胸部", "患者1")


def test_a_malformed_number_is_a_missing_one(tmp_path: Path) -> None:
    path = write(tmp_path, instance(0, modality="PT", PatientWeight=71.5))
    path.write_bytes(path.read_bytes().replace(b"71.5", b"7l,5"))
    pet = read_header(path).shared.pet
    assert pet is not None and pet.weight_kg is None


@pytest.mark.parametrize("block", [0x10, 0x11])
def test_philips_factors_are_found_by_their_creator(tmp_path: Path, block: int) -> None:
    dataset = instance(0, modality="PT", Units="CNTS")
    if block == 0x11:
        dataset.add_new(0x70530010, "LO", "Somebody else")
        dataset.add_new(0x70531000, "DS", "99")
    dataset.add_new(0x70530000 + block, "LO", "Philips PET Private Group")
    dataset.add_new(0x70530000 + block * 256, "DS", "0.000412")
    dataset.add_new(0x70530000 + block * 256 + 9, "DS", "1.75")
    pet = read_header(write(tmp_path, dataset)).shared.pet
    assert pet is not None and (pet.philips_suv_factor, pet.philips_activity_factor) == (0.000412, 1.75)


def test_injection_without_a_sequence_is_missing(tmp_path: Path) -> None:
    dataset = instance(0, modality="PT", RadiopharmaceuticalInformationSequence=None)
    pet = read_header(write(tmp_path, dataset)).shared.pet
    assert pet is not None and pet.dose_bq is None


def test_the_date_and_time_of_injection_are_read(tmp_path: Path) -> None:
    sequence = radiopharmaceutical(RadiopharmaceuticalStartDateTime="20200101235900")
    pet = read_header(
        write(tmp_path, instance(0, modality="PT", RadiopharmaceuticalInformationSequence=sequence))
    ).shared.pet
    assert pet is not None and pet.injection_datetime == "20200101235900"


@pytest.mark.parametrize(
    ("description", "image_type", "flag", "expected"),
    [
        ("PET", ["ORIGINAL", "PRIMARY"], None, False),
        ("PET", ["ORIGINAL", "PRIMARY"], "YES", True),
        ("PET", ["ORIGINAL", "PRIMARY"], "NO", False),
        ("SYNTHETIC PET", ["DERIVED", "SECONDARY"], None, True),
        ("SYNTHETIC PET", ["ORIGINAL", "PRIMARY"], None, False),
        ("PET", ["DERIVED", "SECONDARY"], None, False),
    ],
)
def test_synthetic_image_is_recognised(
    tmp_path: Path, description: str, image_type: list[str], flag: str | None, expected: bool
) -> None:
    dataset = instance(0, modality="PT", SeriesDescription=description, ImageType=image_type)
    if flag:
        dataset.add_new(0x0008001C, "CS", flag)
    assert read_header(write(tmp_path, dataset)).shared.is_synthetic is expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"notes", "not a DICOM file"),
        (b"\x89PNG" + b"\0" * 400, "not a DICOM file"),
        (b"\0" * 128 + b"DICM", "without sop class"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 300, "damaged DICOM file|without sop class"),
    ],
)
def test_what_is_not_dicom_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "thing"
    path.write_bytes(content)
    with pytest.raises(DicomError, match=f"thing: .*({message})"):
        read_header(path)


def test_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, count=1)
    content = path.read_bytes()
    for length in range(132, len(content) - 1, 7):
        path.write_bytes(content[:length])
        try:
            shared = read_header(path).shared
        except DicomError as error:
            assert path.name in str(error)
        else:
            assert shared.rows == 0 or shared.columns == 0  # cut before the matrix: the scan refuses it by that


@pytest.mark.parametrize("frames", ["1", "12"])  # of two bytes, which in implicit VR do not say that they are text
def test_number_of_frames_is_text_in_implicit_vr_too(tmp_path: Path, frames: str) -> None:
    dataset = instance(0, NumberOfFrames=frames, PixelData=bytes(6 * 8 * 2 * int(frames)))
    dataset.file_meta.TransferSyntaxUID, dataset.is_implicit_VR = ImplicitVRLittleEndian, True
    dataset.save_as(tmp_path / "1.dcm", write_like_original=False)
    assert read_header(tmp_path / "1.dcm").shared.number_of_frames == int(frames)


def test_truncated_pixel_data_is_reported_in_bytes(tmp_path: Path) -> None:
    (path,) = write_series(tmp_path, count=1)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DicomError, match=r"000.dcm: truncated, 46 of 96 bytes of pixels"):
        read_header(path)


@pytest.mark.parametrize(
    ("date", "time", "moment"),
    [
        ("20260312", "140530.123456", "20260312140530"),
        ("20260312", "14", "20260312140000"),
        ("20260312", "", "20260312000000"),
        ("2026.03.12", "14:05:30", "20260312140530"),  # as old files have it
        ("20260312", "noon", "20260312000000"),
        ("", "140530", ""),
        ("12 March", "140530", ""),
    ],
)
def test_date_and_time_have_the_precision_of_the_header(date: str, time: str, moment: str) -> None:
    assert moment_of(date, time) == moment


@pytest.mark.parametrize("times", [1, 2, 3])
def test_one_attribute_with_two_values_is_refused(tmp_path: Path, times: int) -> None:
    path = write(tmp_path, instance(0))
    file = path.read_bytes()
    element = b"\x28\x00\x52\x10DS\x06\x00-1000 "  # RescaleIntercept, as the instance has it
    assert file.count(b"\x28\x00\x52\x10DS") == 1
    at = file.index(b"\x28\x00\x52\x10DS")
    path.write_bytes(file[:at] + element * (times - 1) + file[at:])
    if times == 1:
        assert read_header(path).shared.has_rescale
        return
    with pytest.raises(DicomError, match=f"{path.name}: RescaleIntercept occurs twice in the header"):
        read_header(path)
