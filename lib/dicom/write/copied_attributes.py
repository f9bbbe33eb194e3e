"""Attributes that a synthetic series copies from its CT: patient, study and position.

Headers may violate DICOM. An invalid value is never truncated or guessed: unless it has a valid form with the same
meaning, the attribute is empty or absent, and the log names the attribute, never its value. Text is decoded by the CT's
character set, and encoded in UTF-8 if the declaration of that set is invalid.
"""

from __future__ import annotations

import logging
import re

from pydicom import charset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lib.dicom.attributes.value_rules import UID, allowed, decimal_string
from lib.dicom.body_parts import has_no_side
from lib.dicom.read.header import number_in, text_in
from lib.errors import MissingAttributeError

logger = logging.getLogger(__name__)

# Present but empty if unknown (type 2, PS3.5 7.4.3)
EMPTY_IF_UNKNOWN = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "PositionReferenceIndicator",
)  # fmt: skip
ABSENT_IF_UNKNOWN = (
    "TimezoneOffsetFromUTC", "StudyDescription", "IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight",
    "PatientIdentityRemoved", "DeidentificationMethod", "BodyPartExamined", "QualityControlSubject",
    "LongitudinalTemporalInformationModified", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
MULTI_VALUED = ("DeidentificationMethod", "LossyImageCompressionRatio", "LossyImageCompressionMethod")  # VM 1-n
DEIDENTIFICATION_CODES, CODE_PARTS = 0x00120064, ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
METHOD_NOT_STATED = "not stated by the source"
CHARACTER_SET, LATERALITY = 0x00080005, 0x00200060
UTF_8 = "ISO_IR 192"
ASCII = ("", "ISO_IR 6")  # the default character set
WRITTEN_AS_UTF_8 = ("ISO_IR 13",)  # dciodvfy 1.00~20220618 reports its katakana as errors
PLANE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
PLANE_TAGS = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in PLANE}
SLICE_THICKNESS = int(tag_for_keyword("SliceThickness") or 0)
TIME_SOURCES = ("Series", "Acquisition", "Content", "Study")  # sources of the series' date and time, in this order
COPIED_TAGS = [
    CHARACTER_SET, DEIDENTIFICATION_CODES,
    *(int(tag_for_keyword(keyword) or 0) for keyword in (
        *EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN, *PLANE,
        *(f"{what}{part}" for what in TIME_SOURCES for part in ("Date", "Time")),
        "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "PatientPosition",
        "SliceThickness", "Laterality",
    )),
]  # fmt: skip


def copy_patient_and_study(ct: Dataset, *, series_uid: str) -> Dataset:
    """Return patient, study, frame of reference and time of a CT, read with at least `COPIED_TAGS`.

    Raises:
        MissingAttributeError: The CT lacks a study, a frame of reference, or a date and time.
    """
    copied = Dataset()
    encodings = _character_set(ct, copied)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        uid = text_in(ct, int(tag_for_keyword(keyword) or 0))
        if not UID.fullmatch(uid):
            raise MissingAttributeError(
                f"series {series_uid}: {keyword} is {'not a UID' if uid else 'missing'}, which a PET series on the "
                "CT's grid requires; correct the CT's header, or have the PET written as .nrrd",
                attribute=keyword,
            )
        setattr(copied, keyword, uid)
    copied.SeriesDate, copied.SeriesTime = _date_and_time(ct, series_uid)
    invalid = []
    for keyword in (*EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN):
        text = _decoded(ct, keyword, encodings)
        values = text.split("\\") if keyword in MULTI_VALUED else [text]
        kept = [written for value in values if (written := allowed(keyword, value))] if text else []
        if text and len(kept) < len(values):
            invalid.append(keyword)
        if kept:
            setattr(copied, keyword, kept if len(kept) > 1 else kept[0])
        elif keyword in EMPTY_IF_UNKNOWN:
            setattr(copied, keyword, "")
    if invalid:
        logger.info("CT %s: %s not copied to its PET: not valid in DICOM", series_uid, ", ".join(invalid))
    _complete_deidentification(copied, _deidentification(ct, encodings))
    _drop_ratio_of_lossless(copied)
    _set_laterality(copied, text_in(ct, LATERALITY))
    return copied


def copy_slice_plane(ct: Dataset) -> Dataset:
    """Return position, orientation, spacing and thickness of one slice, unchanged if valid in DICOM."""
    copied = Dataset()
    for keyword, numbers in slice_plane(ct).items():
        setattr(copied, keyword, numbers)
    return copied


def slice_plane(ct: Dataset) -> dict[str, list[str]]:
    """Return the decimal strings of `copy_slice_plane` by keyword; an unknown thickness is empty."""
    plane = {}
    for keyword in PLANE:
        numbers = text_in(ct, PLANE_TAGS[keyword]).split("\\")
        plane[keyword] = [decimal_string(number) for number in numbers]
    thickness_mm = number_in(ct, SLICE_THICKNESS)
    plane["SliceThickness"] = ["" if thickness_mm is None else allowed("SliceThickness", str(thickness_mm))]
    return plane


def _date_and_time(ct: Dataset, series_uid: str) -> tuple[str, str]:
    """Return the first complete pair of date and time, which a PET series requires."""
    for what in TIME_SOURCES:
        found = (f"{what}{part}" for part in ("Date", "Time"))
        date, time = (allowed(keyword, text_in(ct, int(tag_for_keyword(keyword) or 0))) for keyword in found)
        if date and time:
            return date, time
    raise MissingAttributeError(
        f"series {series_uid}: none of {', '.join(f'{what}Date' for what in TIME_SOURCES)} is present with its time, "
        "which a PET series requires; add a date and time to the CT's header, or have the PET written as .nrrd",
        attribute="SeriesDate",
    )


def _complete_deidentification(copied: Dataset, codes: Sequence) -> None:
    """Set the de-identification codes or method, required if de-identification is declared (1C, PS3.3 C.7.1.1)."""
    if codes:
        copied.DeidentificationMethodCodeSequence = codes
    elif copied.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in copied:
        copied.DeidentificationMethod = METHOD_NOT_STATED


def _drop_ratio_of_lossless(copied: Dataset) -> None:
    """Keep the lossy compression attributes only if LossyImageCompression is 01 (PS3.3 C.7.6.1)."""
    if copied.get("LossyImageCompression") != "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            copied.pop(keyword, None)


def _set_laterality(copied: Dataset, laterality: str) -> None:
    """Set Laterality, empty if unknown, unless the body part is unpaired (2C, PS3.3 C.7.3.1)."""
    if not has_no_side(copied.get("BodyPartExamined", "")):
        copied.Laterality = allowed("Laterality", laterality)


def _character_set(ct: Dataset, copied: Dataset) -> list[str]:
    """Return the Python encodings of the CT's character set, and set the PET's SpecificCharacterSet.

    Text without a declared set is read as UTF-8, otherwise as Latin-1, and declared as such: its bytes do not change.
    """
    declared = text_in(ct, CHARACTER_SET)
    names = [_defined_term(name.strip()) for name in declared.split("\\")] if declared not in ASCII else []
    encodings = [charset.python_encoding.get(name) for name in names]
    known = [encoding for encoding in encodings if encoding]
    if names and len(known) == len(names):
        copied.SpecificCharacterSet = names if _is_legal(names) else UTF_8
        return known
    raw = b"".join(_bytes(ct, keyword) for keyword in (*EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN))
    if raw.isascii():
        return ["ascii"]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        copied.SpecificCharacterSet = "ISO_IR 100"
        return ["latin_1"]
    copied.SpecificCharacterSet = UTF_8
    return ["utf8"]


def _defined_term(name: str) -> str:
    """Return a character set's name in the form of PS3.3 C.12.1.1.2; consoles also write `ISO-IR 100`."""
    match = re.fullmatch(r"ISO[ _-](2022[ _-])?IR[ _-](\d+)", name)
    return name if match is None else f"ISO 2022 IR {match[2]}" if match[1] else f"ISO_IR {match[2]}"


def _is_legal(names: list[str]) -> bool:
    """Return whether character sets may be combined: a single one without code extensions, or all with them."""
    if len(names) == 1:
        return names[0] not in WRITTEN_AS_UTF_8
    return all(name.startswith("ISO 2022 ") for name in names if name)


def _bytes(ct: Dataset, keyword: str) -> bytes:
    element = ct.get_item(tag_for_keyword(keyword))
    return element.value if element is not None and isinstance(element.value, bytes) else b""


def _decoded(ct: Dataset, keyword: str, encodings: list[str]) -> str:
    """Return text; empty if it is not valid in its character set, since a partial name is another name."""
    raw = _bytes(ct, keyword)
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip(" \0")
    delimiters = {ord(sign) for sign in ("^=" if dictionary_VR(keyword) == "PN" else "\\")}
    try:
        text = raw.decode(encodings[0]) if len(encodings) == 1 else charset.decode_bytes(raw, encodings, delimiters)
    except (LookupError, UnicodeError):
        logger.info("%s is not valid in the declared character set and not copied to the PET", keyword)
        return ""
    return str(text).strip(" \0")


def _deidentification(ct: Dataset, encodings: list[str]) -> Sequence:
    try:
        items = ct[DEIDENTIFICATION_CODES].value if DEIDENTIFICATION_CODES in ct else None
    except Exception:  # a damaged sequence can make a parser raise anything
        items = None
    codes = Sequence()
    for item in items if isinstance(items, Sequence) else ():
        code = Dataset()
        for keyword in CODE_PARTS:
            text = allowed(keyword, _decoded(item, keyword, encodings))
            if text:
                setattr(code, keyword, text)
        if len(code) == len(CODE_PARTS):
            codes.append(code)
    return codes
