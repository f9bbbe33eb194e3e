"""What a synthetic series takes over from its CT: whose it is and where it lies. Nothing is made up.

Real headers break DICOM's rules. A value that does is never cut or mended: it is left empty, or out, and the log names
the attribute (never its value). Text keeps its bytes' meaning: it is decoded by the CT's own character set.
"""

from __future__ import annotations

import logging
import re
from datetime import datetime

from pydicom import charset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import format_number_as_ds

from lib.dicom.read_header import number_in, text_in
from lib.errors import MissingAttributeError

logger = logging.getLogger(__name__)

# What these must be filled with is unknown where the CT does not say it: they are there and empty (type 2, PS3.5 7.4.3)
EMPTY_IF_UNKNOWN = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "Laterality", "PositionReferenceIndicator",
)  # fmt: skip
ABSENT_IF_UNKNOWN = (
    "TimezoneOffsetFromUTC", "StudyDescription", "IssuerOfPatientID", "PatientAge", "PatientSize", "PatientWeight",
    "PatientIdentityRemoved", "DeidentificationMethod", "BodyPartExamined", "QualityControlSubject",
    "LongitudinalTemporalInformationModified", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
SEVERAL = ("DeidentificationMethod", "LossyImageCompressionRatio", "LossyImageCompressionMethod")  # may hold a list
DEIDENTIFICATION_CODES, CODE_PARTS = 0x00120064, ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
CHARACTER_SET = 0x00080005
UID = re.compile(r"[0-9.]{1,64}")  # read tolerantly: some consoles write parts with leading zeros
PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
WHEN = ("Series", "Acquisition", "Content", "Study")  # whose date and time may stand for the series, in this order
RULES = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]{1,16}"),
    "DS": re.compile(r"(?=.{1,16}$)[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "SH": re.compile(r"[^\\\x00-\x1f]{1,16}"),
    "LO": re.compile(r"[^\\\x00-\x1f]{1,64}"),
    "PN": re.compile(r"[^\\=\x00-\x1f]{0,64}(=[^\\=\x00-\x1f]{0,64}){0,2}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
}  # PS3.5 6.2
WORDS = {
    "PatientSex": ("M", "F", "O"),
    "Laterality": ("R", "L"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "QualityControlSubject": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
COPIED_TAGS = [
    CHARACTER_SET, DEIDENTIFICATION_CODES,
    *(int(tag_for_keyword(keyword) or 0) for keyword in (
        *EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN, *PLACE, *(f"{what}{part}" for what in WHEN for part in ("Date", "Time")),
        "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "PatientPosition",
        "SliceThickness",
    )),
]  # fmt: skip


def whose_and_when(ct: Dataset, *, series_uid: str) -> Dataset:
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
        kept = [value for value in values if _obeys(keyword, value)] if text else []
        if text and len(kept) < len(values):
            broken.append(keyword)
        if kept:
            setattr(copied, keyword, kept if len(kept) > 1 else kept[0])
        elif keyword in EMPTY_IF_UNKNOWN:
            setattr(copied, keyword, "")
    if broken:
        logger.info("CT %s: %s left out of its PET: not as DICOM allows", series_uid, ", ".join(broken))
    codes = _deidentification(ct, encodings)
    if codes:
        copied.DeidentificationMethodCodeSequence = codes
    return copied


def place(ct: Dataset) -> Dataset:
    """Return where one slice lies, numbers as the CT has them where DICOM allows, and its SliceThickness."""
    copied = Dataset()
    for keyword in PLACE:
        numbers = text_in(ct, int(tag_for_keyword(keyword) or 0)).split("\\")
        setattr(copied, keyword, [_decimal(number) for number in numbers])
    thickness_mm = number_in(ct, int(tag_for_keyword("SliceThickness") or 0))
    copied.SliceThickness = "" if thickness_mm is None else format_number_as_ds(thickness_mm)
    return copied


def _when(ct: Dataset, series_uid: str) -> tuple[str, str]:
    """Return the first complete pair of date and time: a PET series must have both, and the same ones each time."""
    for what in WHEN:
        date, time = (text_in(ct, int(tag_for_keyword(f"{what}{part}") or 0)) for part in ("Date", "Time"))
        if _obeys("StudyDate", date) and _obeys("StudyTime", time):
            return date, time
    raise MissingAttributeError(
        f"series {series_uid}: none of {', '.join(f'{what}Date' for what in WHEN)} is there with its time, and a PET "
        "series must have one; put a date and time into the CT's header, or have the PET written as .nrrd"
    )


def _obeys(keyword: str, value: str) -> bool:
    if keyword in WORDS:
        return value in WORDS[keyword]
    kind = dictionary_VR(keyword)
    if kind == "DA":
        try:
            return len(value) == 8 and value.isdigit() and bool(datetime.strptime(value, "%Y%m%d"))
        except ValueError:
            return False
    return bool(RULES[kind].fullmatch(value))


def _character_set(ct: Dataset, copied: Dataset) -> list[str]:
    """Return Python's names of the CT's character set, and put the set into the copy.

    Text of no declared set is read as UTF-8, or else as Latin-1, and said to be so: its bytes stay the same.
    """
    declared = text_in(ct, CHARACTER_SET)
    raw = b"".join(_bytes(ct, keyword) for keyword in (*EMPTY_IF_UNKNOWN, *ABSENT_IF_UNKNOWN))
    names = declared.split("\\") if declared else []
    encodings = [charset.python_encoding.get(name.strip()) for name in names]
    known = [encoding for encoding in encodings if encoding]
    if names and len(known) == len(names):
        copied.SpecificCharacterSet = [name.strip() for name in names]
        return known
    if raw.isascii():
        return ["ascii"]
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        copied.SpecificCharacterSet = "ISO_IR 100"
        return ["latin_1"]
    copied.SpecificCharacterSet = "ISO_IR 192"
    return ["utf8"]


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
    items = ct[DEIDENTIFICATION_CODES].value if DEIDENTIFICATION_CODES in ct else []
    codes = Sequence()
    for item in items or []:
        code = Dataset()
        for keyword in CODE_PARTS:
            text = _decoded(item, keyword, encodings)
            if text and _obeys(keyword, text):
                setattr(code, keyword, text)
        if len(code) == len(CODE_PARTS):
            codes.append(code)
    return codes


def _decimal(text: str) -> str:
    """Return a decimal string of at most 16 characters; a longer one is rounded to that."""
    text = text.strip()
    return text if RULES["DS"].fullmatch(text) else str(format_number_as_ds(float(text)))
