"""Attribute values allowed by PS3.5 6.2, and the few repairs that preserve a value's meaning.

Repaired are forms that older standards allowed, `2026.03.12` and `14:05:30` of ACR-NEMA (PS3.5 table 6.2-1), and
fractions of a second or decimal strings with too many digits. Values that would have to be truncated or guessed are not
repaired.
"""

from __future__ import annotations

import math
import re

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import format_number_as_ds

from lib.dicom.attributes.values import parse_date, parse_time

__all__ = ["UID", "allowed", "decimal_string"]

UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)+")  # tolerant: some writers use leading zeros or a root of their own
CHARACTER = r"[^\\\x00-\x1f\x7f-\x9f]"  # no control characters, no value separator
NAME = r"(?=[^=]{0,64}(=|$))[^\\=^\x00-\x1f\x7f-\x9f]*(\^[^\\=^\x00-\x1f\x7f-\x9f]*){0,4}"  # five components at most
RULES = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9 _]{1,16}"),
    "DS": re.compile(r"(?=.{1,16}$)[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
    "SH": re.compile(CHARACTER + r"{1,16}"),
    "LO": re.compile(CHARACTER + r"{1,64}"),
    "PN": re.compile(f"{NAME}(={NAME}){{0,2}}"),
}  # PS3.5 6.2
DEFINED_TERMS = {
    "PatientSex": ("M", "F", "O"),
    "Laterality": ("R", "L"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "QualityControlSubject": ("YES", "NO"),
    "LossyImageCompression": ("00", "01"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
POSITIVE = frozenset({"PatientSize", "PatientWeight", "SliceThickness"})  # consoles write 0 for "unknown"
ZONE = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")  # UTC-12 to UTC+14 (PS3.3 C.12.1.1)


def allowed(keyword: str, value: str) -> str:
    """Return an attribute's value in a valid form; empty if DICOM has no valid form with the same meaning."""
    kind = dictionary_VR(keyword)
    if keyword in DEFINED_TERMS:
        return value if value in DEFINED_TERMS[keyword] else ""
    if keyword == "TimezoneOffsetFromUTC":
        return value if ZONE.fullmatch(value) and value != "-0000" else ""
    if kind in ("DA", "TM"):
        return _date_or_time(kind, value)
    if kind == "DS" and keyword in POSITIVE and not _is_positive(value):
        return ""
    if kind == "DS" and _is_finite(value):
        value = decimal_string(value)
    return value if RULES[kind].fullmatch(value) else ""


def decimal_string(text: str) -> str:
    """Return a finite number as a decimal string, rounded to at most 16 characters."""
    text = text.strip()
    return text if RULES["DS"].fullmatch(text) else str(format_number_as_ds(float(text)))


def _date_or_time(kind: str, value: str) -> str:
    """Return a DA or TM in DICOM's current form; empty for forms that neither DICOM nor ACR-NEMA allows."""
    moment = parse_date(value) if kind == "DA" else parse_time(value)
    if moment is None or moment.oddity:
        return ""
    return "" if kind == "DA" and moment.text[0] not in "12" else moment.text


def _is_finite(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _is_positive(value: str) -> bool:
    return _is_finite(value) and float(value) > 0
