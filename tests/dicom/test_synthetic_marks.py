"""A synthetic PET is recognised by each of its markers, in current files and those of earlier versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from lib.dicom.read.header import read_header
from lib.dicom.remote.json_header import header_from_json
from lib.dicom.scan.scan import scan_folder
from lib.dicom.write.derivation import code
from lib.pairing.pairs import pair_series
from tests.dicom.builders import instance, write_series
from tests.dicom.write.synthetic_pets import ct_in, synthetic_of

MARKS: dict[str, tuple[int, ...]] = {
    "SyntheticData": (0x0008001C,),
    "a description": (0x0008103E, 0x00082111, 0x00204000),  # of the series, the derivation, and the image
    "the equipment": (0x0018A001,),
    "the derivation code": (0x00089215,),
}


def synthetic_instance(folder: Path, second_value: str) -> Dataset:
    pet = next(synthetic_of(ct_in(folder)).datasets())
    pet.ImageType = ["DERIVED", second_value, "AXIAL"]
    return pet


@pytest.mark.parametrize("second_value", ["PRIMARY", "SECONDARY"])  # today's, and that of versions before 0.2
@pytest.mark.parametrize("kept", MARKS)
def test_one_marker_is_enough(tmp_path: Path, kept: str, second_value: str) -> None:
    pet = synthetic_instance(tmp_path / "ct", second_value)
    for mark, tags in MARKS.items():
        for tag in tags if mark != kept else ():
            del pet[tag]
    pet.save_as(tmp_path / "pet.dcm")
    assert read_header(tmp_path / "pet.dcm").shared.is_synthetic
    assert header_from_json(pet.to_json_dict(), "pet.dcm").shared.is_synthetic  # from the metadata of a PACS


def test_image_without_markers_is_not_synthetic(tmp_path: Path) -> None:
    pet = synthetic_instance(tmp_path / "ct", "PRIMARY")
    for tags in MARKS.values():
        for tag in tags:
            del pet[tag]
    pet.save_as(tmp_path / "pet.dcm")
    assert not read_header(tmp_path / "pet.dcm").shared.is_synthetic


@pytest.mark.parametrize("image_type", [["DERIVED", "PRIMARY"], ["DERIVED", "SECONDARY", "AXIAL"]])
def test_earlier_series_without_its_flag_is_never_used_for_training(tmp_path: Path, image_type: list[str]) -> None:
    write_series(tmp_path / "ct")
    write_series(
        tmp_path / "pet", modality="PT", ImageType=image_type, SeriesDescription="", Manufacturer="ct2pet",
        DerivationCodeSequence=code("SYNTHETIC-PET", "99CT2PET", "Synthetic PET estimated from CT"),
    )  # fmt: skip
    assert pair_series(scan_folder(tmp_path)).pairs == ()


@pytest.mark.parametrize(
    "attributes",
    [
        {"Manufacturer": "ct2pet", "ImageType": ["DERIVED", "PRIMARY"]},  # a phantom's reformatted
        {"ImageType": ["ORIGINAL", "PRIMARY"], "ImageComments": "synthetic tracer"},
        {"DerivationCodeSequence": code("113076", "DCM", "Segmentation"), "ImageType": ["DERIVED", "PRIMARY"]},
        {"ContributingEquipmentSequence": [Dataset()]},
    ],
)
def test_measured_pet_is_not_synthetic(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = tmp_path / "pet.dcm"
    instance(0, modality="PT", **attributes).save_as(path, write_like_original=False)
    assert not read_header(path).shared.is_synthetic
