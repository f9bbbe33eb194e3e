"""Headers from DICOM JSON equal those from the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from lib.dicom.read.header import read_header
from lib.dicom.remote.json_header import header_from_json
from lib.errors import DicomError
from tests.dicom.builders import instance

KINDS: dict[str, dict[str, Any]] = {
    "CT": {"modality": "CT", "RescaleType": "HU"},
    "PET": {"modality": "PT", "RescaleSlope": 0.33, "FrameReferenceTime": 500.0},
    "not ASCII": {"modality": "CT", "SpecificCharacterSet": "ISO_IR 100", "SeriesDescription": "Sch\u00e4del"},
    "silent": {"modality": "CT", "ImagePositionPatient": None, "AcquisitionNumber": ""},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_json_header_equals_the_file_header(tmp_path: Path, kind: dict[str, Any]) -> None:
    path = tmp_path / "slice.dcm"
    instance(2, **kind).save_as(path, write_like_original=False)
    metadata = dcmread(path, stop_before_pixels=True).to_json_dict()
    header = read_header(path)
    expected = replace(header, shared=replace(header.shared, transfer_syntax_uid=""))  # JSON has no file meta
    assert header_from_json(metadata, str(path)) == expected


def test_philips_factors_are_found_without_a_file() -> None:
    dataset = instance(0, modality="PT", Units="CNTS")
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.0004")
    block.add_new(0x09, "DS", "2.5")
    pet = header_from_json(dataset.to_json_dict(), "/nowhere/slice.dcm").shared.pet
    assert pet is not None
    assert (pet.philips_suv_factor, pet.philips_activity_factor) == (0.0004, 2.5)


INVALID: dict[str, Any] = {
    "nothing": {},
    "no tags": {"name": {"vr": "LO"}},
    "no elements": {"00080018": "1.2.3"},
}


@pytest.mark.parametrize("metadata", INVALID.values(), ids=INVALID)
def test_invalid_json_is_a_dicom_error(metadata: dict[str, Any]) -> None:
    with pytest.raises(DicomError, match=r"not valid DICOM JSON|without sop class"):
        header_from_json(metadata, "slice.dcm")
