"""What a synthetic series takes over from its CT: whose it is and where it lies. Nothing is made up.

Real headers break DICOM's rules. A value that does is never cut or guessed: unless another spelling says the same, it
is left empty, or out, and the log names the attribute (never its value). Text keeps its letters: it is decoded by the
CT's own character set, and written in UTF-8 where that set is not declared as DICOM allows.
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

# What these must be filled with is unknown where the CT does not say it: they are there and empty (type 2, PS3.5 7.4.3)
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
SEVERAL = ("DeidentificationMethod", "LossyImageCompressionRatio", "LossyImageCompressionMethod")  # may hold a list
DEIDENTIFICATION_CODES, CODE_PARTS = 0x00120064, ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
METHOD_NOT_STATED = "not stated by the source"
CHARACTER_SET, LATERALITY = 0x00080005, 0x00200060
UTF_8 = "ISO_IR 192"
ASCII = ("", "ISO_IR 6")  # the default, which has no name of its own
WRITTEN_AS_UTF_8 = ("ISO_IR 13",)  # dciodvfy 1.00~20220618 takes its katakana for errors; the letters stay the same
PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
WHEN = ("Series", "Acquisition", "Content", "Study")  # whose date and time may stand for the series, in this order
COPIED_TAGS = [
    CHARACTER_SET, DEIDENTIFICATION_CODES,
    *(int(tag_for_keyword(keyword) or 0) for keyword in (
        *EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN, *PLACE, *(f"{what}{part}" for what in WHEN for part in ("Date", "Time")),
        "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "PatientPosition",
        "SliceThickness", "Laterality",
    )),
]  # fmt: skip


def copy_patient_and_study(ct: Dataset, *, series_uid: str) -> Dataset:
    """Return the patient, the study, the frame of reference and the time of a CT, read with at least `COPIED_TAGS`.

    Raises:
        MissingAttributeError: Without a study, a frame of reference or a date and time there can be no PET series.
    """
    copied = Dataset()
    encodings = _character_set(ct, copied)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        uid = text_in(ct, int(tag_for_keyword(keyword) or 0))
        if not UID.fullmatch(uid):
            raise MissingAttributeError(
                f"series {series_uid}: {keyword} is {'no UID' if uid else 'missing'}, and a PET series without it "
                "cannot be placed with its CT; correct the CT's header, or have the PET written as .nrrd"
            )
        setattr(copied, keyword, uid)
    copied.SeriesDate, copied.SeriesTime = _when(ct, series_uid)
    broken = []
    for keyword in (*EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN):
        text = _decoded(ct, keyword, encodings)
        values = text.split("\\") if keyword in SEVERAL else [text]
        kept = [written for value in values if (written := allowed(keyword, value))] if text else []
        if text and len(kept) < len(values):
            broken.append(keyword)
        if kept:
            setattr(copied, keyword, kept if len(kept) > 1 else kept[0])
        elif keyword in EMPTY_IF_UNKNOWN:
            setattr(copied, keyword, "")
    if broken:
        logger.info("CT %s: %s left out of its PET: not as DICOM allows", series_uid, ", ".join(broken))
    _complete_deidentification(copied, _deidentification(ct, encodings))
    _drop_ratio_of_lossless(copied)
    _put_side(copied, text_in(ct, LATERALITY))
    return copied


def place(ct: Dataset) -> Dataset:
    """Return where one slice lies, numbers as the CT has them where DICOM allows, and its SliceThickness."""
    copied = Dataset()
    for keyword in PLACE:
        numbers = text_in(ct, int(tag_for_keyword(keyword) or 0)).split("\\")
        setattr(copied, keyword, [decimal_string(number) for number in numbers])
    thickness_mm = number_in(ct, int(tag_for_keyword("SliceThickness") or 0))
    copied.SliceThickness = "" if thickness_mm is None else allowed("SliceThickness", str(thickness_mm))
    return copied


def _when(ct: Dataset, series_uid: str) -> tuple[str, str]:
    """Return the first complete pair of date and time: a PET series must have both, and the same ones each time."""
    for what in WHEN:
        found = (f"{what}{part}" for part in ("Date", "Time"))
        date, time = (allowed(keyword, text_in(ct, int(tag_for_keyword(keyword) or 0))) for keyword in found)
        if date and time:
            return date, time
    raise MissingAttributeError(
        f"series {series_uid}: none of {', '.join(f'{what}Date' for what in WHEN)} is there with its time, and a PET "
        "series must have one; put a date and time into the CT's header, or have the PET written as .nrrd"
    )


def _complete_deidentification(copied: Dataset, codes: Sequence) -> None:
    """Put in the codes of a de-identification; one that is declared must have its method (1C, PS3.3 C.7.1.1)."""
    if codes:
        copied.DeidentificationMethodCodeSequence = codes
    elif copied.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in copied:
        copied.DeidentificationMethod = METHOD_NOT_STATED


def _drop_ratio_of_lossless(copied: Dataset) -> None:
    """Keep how a CT was compressed only where it says that it was (PS3.3 C.7.6.1)."""
    if copied.get("LossyImageCompression") != "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            copied.pop(keyword, None)


def _put_side(copied: Dataset, laterality: str) -> None:
    """Say which side it is, or that this is not known, unless the body part has none (2C, PS3.3 C.7.3.1)."""
    if not has_no_side(copied.get("BodyPartExamined", "")):
        copied.Laterality = allowed("Laterality", laterality)


def _character_set(ct: Dataset, copied: Dataset) -> list[str]:
    """Return Python's names of the CT's character set, and put the set that the PET will have into the copy.

    Text of no declared set is read as UTF-8, or else as Latin-1, and said to be so: its bytes stay the same.
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
    """Return a character set's name as PS3.3 C.12.1.1.2 spells it; consoles write `ISO-IR 100`, too."""
    spelled = re.fullmatch(r"ISO[ _-](2022[ _-])?IR[ _-](\d+)", name)
    return name if spelled is None else f"ISO 2022 IR {spelled[2]}" if spelled[1] else f"ISO_IR {spelled[2]}"


def _is_legal(names: list[str]) -> bool:
    """Return whether these names may stand together: one of a set without escapes, or all of sets with escapes."""
    if len(names) == 1:
        return names[0] not in WRITTEN_AS_UTF_8
    return all(name.startswith("ISO 2022 ") for name in names if name)


def _bytes(ct: Dataset, keyword: str) -> bytes:
    element = ct.get_item(tag_for_keyword(keyword))
    return element.value if element is not None and isinstance(element.value, bytes) else b""


def _decoded(ct: Dataset, keyword: str, encodings: list[str]) -> str:
    """Return text; what its character set does not hold becomes empty, for half a name is another name."""
    raw = _bytes(ct, keyword)
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip(" \0")
    delimiters = {ord(sign) for sign in ("^=" if dictionary_VR(keyword) == "PN" else "\\")}
    try:
        text = raw.decode(encodings[0]) if len(encodings) == 1 else charset.decode_bytes(raw, encodings, delimiters)
    except (LookupError, UnicodeError):
        logger.info("%s is not in the character set its header names, and left out of the PET", keyword)
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
