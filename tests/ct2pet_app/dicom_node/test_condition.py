"""Conditions of rules: what holds, by the manual's rules, and what is refused with which advice."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ct2pet_app.dicom_node.condition import MAX_NODES, parse_condition
from ct2pet_app.errors import SettingsError
from lib.dicom.keywords import read_texts

CHEST = {
    "BodyPartExamined": ("CHEST",),
    "Modality": ("CT",),
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "SliceThickness": ("2.5",),
    "SeriesDescription": ("Thorax Lung 2.5 mm",),
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("BodyPartExamined == 'CHEST'", True),
        ("BodyPartExamined == 'chest'", True),
        ("BodyPartExamined != 'CHEST'", False),
        ("BodyPartExamined in ('HEAD', 'CHEST')", True),
        ("BodyPartExamined not in ['HEAD', 'CHEST']", False),
        ("'lung' in SeriesDescription", True),
        ("'bone' not in SeriesDescription", True),
        ("ImageType == 'AXIAL'", True),
        ("ImageType == 'LOCALIZER'", False),
        ("SliceThickness <= 2.5 and SliceThickness > 1", True),
        ("SliceThickness > -1", True),
        ("SliceThickness >= 3", False),
        ("SliceThickness == 2.50", True),
        ("not (Modality == 'CT' or Modality == 'PT')", False),
        ("Modality == 'PT' or Modality == 'CT' and BodyPartExamined == 'HEAD'", False),
        # absent: no comparison holds, so its negation does
        ("PatientAge == '040Y'", False),
        ("PatientAge != '040Y'", True),
        ("KVP > 100", False),
        # text that is no number compares with none
        ("SeriesDescription > 1", False),
    ],
)
def test_conditions_hold_as_documented(condition: str, expected: bool) -> None:
    assert parse_condition(condition).holds(CHEST) is expected


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "it cannot be parsed"),
        ("BodyPartExamined = 'CHEST'", "it cannot be parsed"),
        ("BodyPart == 'CHEST'", "BodyPart: no DICOM keyword"),
        ("BodyPartExamind == 'CHEST'", "did you mean BodyPartExamined?"),
        ("PatientName == 'x'", "PatientName: its values (PN) cannot be compared"),
        ("PixelData == 'x'", "its values (OB or OW) cannot be compared"),
        ("RadiopharmaceuticalInformationSequence == 'x'", "its values (SQ) cannot be compared"),
        ("__import__('os').system('id') == 0", "stands where a DICOM keyword is expected"),
        ("Modality.__class__ == 'x'", "stands where a DICOM keyword is expected"),
        ("Modality == open('/etc/passwd')", "stands where a text in quotes or a number is expected"),
        ("Modality == BodyPartExamined", "stands where a text in quotes or a number is expected"),
        ("Modality == True", "stands where a text in quotes or a number is expected"),
        ("(lambda: 1)()", "is no comparison"),
        ("Modality", "'Modality' is no comparison"),
        ("1 < SliceThickness < 3", "compares more than two things; join two comparisons by and"),
        ("Modality > 'CT'", "is ordered against the text"),
        ("Modality in 'CT'", "is no list"),
        ("Modality is 'CT'", "Modality is ordered against the text"),
        ("(" * 500 + "Modality == 'CT'" + ")" * 500, "characters, expected at most 1000"),
        ("(" * 250 + "Modality == 'CT'" + ")" * 250, "it cannot be parsed"),
        (" or ".join(["KVP > 1"] * (MAX_NODES // 4)), "it has too many parts"),
        ("Modality == '\x00'", "it cannot be parsed"),
    ],
)
def test_anything_else_is_refused_with_advice(condition: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_condition(condition)
    assert message in str(refused.value)


def test_values_are_read_from_a_header_as_text(tmp_path: Path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "2.25.1"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.ImageType, dataset.SliceThickness = ["ORIGINAL", "PRIMARY"], "2.50"
    dataset.BodyPartExamined = "CHEST "
    dataset.save_as(tmp_path / "ct.dcm", write_like_original=False)
    assert read_texts(tmp_path / "ct.dcm", ["ImageType", "SliceThickness", "BodyPartExamined", "KVP"]) == {
        "ImageType": ("ORIGINAL", "PRIMARY"),
        "SliceThickness": ("2.50",),
        "BodyPartExamined": ("CHEST",),
        "KVP": (),
    }
