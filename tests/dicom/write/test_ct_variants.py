"""CTs as consoles and de-identifiers write them: their PETs are valid and copy the CT's attributes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.attributes.value_rules import allowed
from lib.dicom.body_parts import UNPAIRED
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError
from tests.dicom.builders import write_series
from tests.dicom.write.synthetic_pets import WHEN, dciodvfy_errors, saved_by_pydicom, synthetic_of

LONG = ("OB", "OW", "SQ", "UN")  # value representations whose length takes 32 bits (PS3.5 7.1.2)
NOT_THERE = None
NOT_STATED = "not stated by the source"


@dataclass(frozen=True)
class Raw:
    """An element with arbitrary bytes and value representation."""

    keyword: str
    value: bytes
    vr: str

    def put_into(self, path: Path) -> None:
        """Insert an element that pydicom would refuse into a file in Explicit VR Little Endian."""
        tag, content = int(tag_for_keyword(self.keyword) or 0), self.value + b" " * (len(self.value) % 2)
        size = struct.pack("<HI", 0, len(content)) if self.vr in LONG else struct.pack("<H", len(content))
        encoded = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, self.vr.encode()) + size + content
        read = dcmread(path)
        following = read.get_item(next(other for other in sorted(read.keys()) if other > tag))
        assert isinstance(following, RawDataElement)
        start = following.value_tell - (12 if following.VR in LONG else 8)
        file = path.read_bytes()
        path.write_bytes(file[:start] + encoded + file[start:])


def codes(value: str = "113100") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "Basic Profile"
    return Sequence([item])


def pet_file(folder: Path, attributes: dict[str, Any], *broken: Raw) -> Path:
    """Write a CT of two slices and return the first file of its PET."""
    ct = folder / "ct"
    ct.mkdir()
    absent = {element.keyword: None for element in broken}
    for path in write_series(ct, count=2, **(WHEN | attributes | absent)):
        for element in broken:
            element.put_into(path)
    (found,) = scan_folder(ct).usable("CT")
    path = folder / "pet.dcm"
    series = synthetic_of(found.series)
    files = list(series.files())
    assert files == saved_by_pydicom(series)
    path.write_bytes(files[0][1])
    return path


@pytest.fixture
def dciodvfy(require_program: Callable[[str], str]) -> Iterator[Callable[[Path], list[str]]]:
    program = require_program("dciodvfy")
    yield lambda path: dciodvfy_errors(program, path)


def values_in(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the PET's values of the keywords in a table; "" for an empty value, None for an absent one."""
    pet = dcmread(path)
    return {keyword: _plain(pet[keyword].value) if keyword in pet else NOT_THERE for keyword in expected}


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence):
        return len(value)
    return [str(one) for one in value] if hasattr(value, "append") else "" if value is None else str(value)


DEIDENTIFICATION: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"PatientIdentityRemoved": NOT_THERE, "DeidentificationMethod": NOT_THERE}),
    ({"PatientIdentityRemoved": "YES"}, {"PatientIdentityRemoved": "YES", "DeidentificationMethod": NOT_STATED}),
    (
        {"PatientIdentityRemoved": "YES", "DeidentificationMethod": ["by hand", "twice"]},
        {"PatientIdentityRemoved": "YES", "DeidentificationMethod": ["by hand", "twice"]},
    ),
    (
        {"PatientIdentityRemoved": "YES", "DeidentificationMethodCodeSequence": codes()},
        {"DeidentificationMethod": NOT_THERE, "DeidentificationMethodCodeSequence": 1},
    ),
    (
        {"PatientIdentityRemoved": "YES", "DeidentificationMethodCodeSequence": codes("of more than 16 letters")},
        {"DeidentificationMethod": NOT_STATED, "DeidentificationMethodCodeSequence": NOT_THERE},
    ),
    ({"PatientIdentityRemoved": "NO"}, {"PatientIdentityRemoved": "NO", "DeidentificationMethod": NOT_THERE}),
    ({"DeidentificationMethod": "by hand"}, {"PatientIdentityRemoved": NOT_THERE, "DeidentificationMethod": "by hand"}),
]
SIDES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"BodyPartExamined": NOT_THERE, "Laterality": ""}),  # the body part is unknown
    ({"Laterality": "L"}, {"Laterality": "L"}),
    ({"BodyPartExamined": "CHEST"}, {"BodyPartExamined": "CHEST", "Laterality": NOT_THERE}),
    ({"BodyPartExamined": "CHEST", "Laterality": ""}, {"Laterality": NOT_THERE}),
    ({"BodyPartExamined": "ABDOMEN", "Laterality": "R"}, {"Laterality": NOT_THERE}),
    ({"BodyPartExamined": "LUNG"}, {"BodyPartExamined": "LUNG", "Laterality": ""}),
    ({"BodyPartExamined": "LEG", "Laterality": "R"}, {"BodyPartExamined": "LEG", "Laterality": "R"}),
    ({"BodyPartExamined": "LEG", "Laterality": "B"}, {"Laterality": ""}),
    ({"BodyPartExamined": "THORAX"}, {"BodyPartExamined": "THORAX", "Laterality": ""}),  # no term of the standard
]
OTHERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"PatientWeight": 0, "PatientSize": -1}, {"PatientWeight": NOT_THERE, "PatientSize": NOT_THERE}),
    ({"PatientSize": "1.75", "PatientAge": "058Y"}, {"PatientSize": "1.75", "PatientAge": "058Y"}),
    ({"PatientName": "A^B^C^D^E"}, {"PatientName": "A^B^C^D^E"}),
    ({"PatientName": "A^B^C^D^E^F"}, {"PatientName": ""}),
    ({"SliceThickness": 0}, {"SliceThickness": ""}),
    ({"SeriesNumber": 2147483647}, {"SeriesNumber": "9000"}),
    ({"SeriesNumber": 2147474647}, {"SeriesNumber": "2147483647"}),
    ({"TimezoneOffsetFromUTC": "+0130"}, {"TimezoneOffsetFromUTC": "+0130"}),
    ({"TimezoneOffsetFromUTC": "CET"}, {"TimezoneOffsetFromUTC": NOT_THERE}),
    ({"LossyImageCompression": "01", "LossyImageCompressionRatio": 10}, {"LossyImageCompressionRatio": "10.0"}),
    ({"LossyImageCompression": "00", "LossyImageCompressionRatio": 10}, {"LossyImageCompressionRatio": NOT_THERE}),
    ({"StudyDate": None, "StudyTime": None}, {"StudyDate": "", "StudyTime": "", "SeriesDate": "20200102"}),
    # what a CT may have, and a PET may not
    (
        {"ContrastBolusAgent": "iodine", "KVP": 120, "ExposureTime": 500, "ConvolutionKernel": "B30f"},
        {"ContrastBolusAgent": NOT_THERE, "KVP": NOT_THERE, "ExposureTime": NOT_THERE, "ConvolutionKernel": NOT_THERE},
    ),
]
BROKEN: list[tuple[Raw, dict[str, Any]]] = [
    (Raw("StudyID", b"of seventeen char", "SH"), {"StudyID": ""}),
    (Raw("PatientWeight", b"71,5", "DS"), {"PatientWeight": NOT_THERE}),
    (Raw("PatientWeight", b"71.500000000000000", "DS"), {"PatientWeight": "71.5"}),
    (Raw("PatientWeight", b"1e999 ", "DS"), {"PatientWeight": NOT_THERE}),
    (Raw("PatientAge", b"58", "AS"), {"PatientAge": NOT_THERE}),
    (Raw("PatientAge", b"\x3a\x00", "US"), {"PatientAge": NOT_THERE}),
    (Raw("PatientSex", b"male", "CS"), {"PatientSex": ""}),
    (Raw("StudyDescription", b"chest\x7f ", "LO"), {"StudyDescription": NOT_THERE}),
    (Raw("StudyDescription", b"chest\\low dose", "LO"), {"StudyDescription": NOT_THERE}),
    (Raw("StudyDate", b"99991231", "DA"), {"StudyDate": ""}),
    (Raw("StudyDate", b"2020.01.02", "DA"), {"StudyDate": "20200102"}),
    (Raw("StudyTime", b"10:15:30.5", "TM"), {"StudyTime": "101530.5"}),
    (Raw("StudyTime", b"101530.1234567 ", "TM"), {"StudyTime": "101530.123456"}),
    (Raw("StudyTime", b"240000", "TM"), {"StudyTime": ""}),
    (Raw("SeriesNumber", b"two ", "IS"), {"SeriesNumber": "9000"}),
    (Raw("SliceThickness", b"3 mm", "DS"), {"SliceThickness": ""}),
    (Raw("DeidentificationMethodCodeSequence", b"by hand ", "LO"), {"DeidentificationMethodCodeSequence": NOT_THERE}),
    (Raw("DeidentificationMethodCodeSequence", b"\x01\x02\x03", "SQ"), {"DeidentificationMethodCodeSequence": None}),
    (Raw("SpecificCharacterSet", b"LATIN1", "CS"), {"SpecificCharacterSet": NOT_THERE}),
]
SETS: list[tuple[Any, str, Any]] = [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ISO_IR 192"),
    ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
    ("ISO_IR 192", "Größe^Jürgen", "ISO_IR 192"),
    ("ISO_IR 144", "Дое^Иван", "ISO_IR 144"),
    (["ISO_IR 100", "ISO_IR 144"], "Größe^Jürgen", "ISO_IR 192"),  # two sets without code extensions cannot be combined
    ("ISO_IR 6", "Plain^Text", NOT_THERE),
]


@pytest.mark.parametrize(("attributes", "expected"), DEIDENTIFICATION + SIDES + OTHERS)
def test_pet_is_valid_and_copies_the_ct_attributes(
    tmp_path: Path, dciodvfy: Callable[[Path], list[str]], attributes: dict[str, Any], expected: dict[str, Any]
) -> None:
    path = pet_file(tmp_path, attributes)
    assert values_in(path, expected) == expected
    assert dciodvfy(path) == []


@pytest.mark.parametrize(("element", "expected"), BROKEN)
def test_invalid_value_is_repaired_or_omitted(
    tmp_path: Path, dciodvfy: Callable[[Path], list[str]], element: Raw, expected: dict[str, Any]
) -> None:
    path = pet_file(tmp_path, {}, element)
    assert values_in(path, expected) == expected
    assert dciodvfy(path) == []


@pytest.mark.parametrize(("character_set", "name", "written"), SETS)
def test_name_is_preserved_in_a_valid_character_set(
    tmp_path: Path, dciodvfy: Callable[[Path], list[str]], character_set: Any, name: str, written: Any
) -> None:
    path = pet_file(tmp_path, {"SpecificCharacterSet": character_set, "PatientName": name})
    assert values_in(path, {"PatientName": name, "SpecificCharacterSet": written}) == {
        "PatientName": name, "SpecificCharacterSet": written
    }  # fmt: skip
    assert dciodvfy(path) == []


@pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set", "ignore:Value 'ISO_IR 192'")  # pydicom
@pytest.mark.parametrize("spelled", ["ISO-IR 144", "ISO IR 144", "ISO_IR_144", "ISO_IR 144\\ISO_IR 192"])
def test_misspelled_character_set_is_recognised(tmp_path: Path, spelled: str) -> None:
    name = Raw("PatientName", "Дое^Иван".encode("iso8859_5"), "PN")
    path = pet_file(tmp_path, {}, Raw("SpecificCharacterSet", spelled.encode(), "CS"), name)
    assert values_in(path, {"PatientName": ""}) == {"PatientName": "Дое^Иван"}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")  # as the broken CT is written
def test_invalid_sop_instance_uid_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, vary=lambda k: {"SOPInstanceUID": f"1..{k}"}, **WHEN)
    (found,) = scan_folder(tmp_path).usable("CT")
    with pytest.raises(DicomError, match="its SOPInstanceUID is not a UID, so a PET series cannot refer to it"):
        synthetic_of(found.series)


def test_unpaired_body_parts_agree_with_dciodvfy(tmp_path: Path, dciodvfy: Callable[[Path], list[str]]) -> None:
    path = pet_file(tmp_path, {})
    pet = dcmread(path)
    for part in UNPAIRED:
        pet.BodyPartExamined, pet.Laterality = part, "R"
        pet.save_as(path)
        assert ["Laterality" in error for error in dciodvfy(path)] == [True], part


@pytest.mark.parametrize(
    ("keyword", "value", "written"),
    [
        ("TimezoneOffsetFromUTC", "+1400", "+1400"),
        ("TimezoneOffsetFromUTC", "+1500", ""),
        ("TimezoneOffsetFromUTC", "-0000", ""),
        ("StudyDate", "20240229", "20240229"),
        ("StudyDate", "20230229", ""),
        ("StudyDate", "29991231", "29991231"),
        ("StudyDate", "30000101", ""),
        ("StudyTime", "10:15", "1015"),
        ("StudyTime", "1015.5", ""),
        ("StudyID", "x" * 16, "x" * 16),
        ("StudyID", "x" * 17, ""),
        ("PatientName", "x" * 64, "x" * 64),
        ("PatientName", "x" * 65, ""),
        ("PatientWeight", "0.001", "0.001"),
        ("PatientWeight", "nan", ""),
    ],
)
def test_the_limits_of_a_value(keyword: str, value: str, written: str) -> None:
    assert allowed(keyword, value) == written
