"""Attribute values allowed by PS3.5 6.2, and the few repairs that preserve a value's meaning.

Repaired are forms that older standards allowed, `2026.03.12` and `14:05:30` of ACR-NEMA (PS3.5 table 6.2-1), and
fractions of a second or decimal strings with too many digits. Values that would have to be truncated or guessed are not
repaired.
"""

from __future__ import annotations

import math
import re
from datetime import datetime

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import format_number_as_ds

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
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
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
OLD_DATE, OLD_TIME = re.compile(r"(\d{4})\.(\d\d)\.(\d\d)"), re.compile(r"(\d\d):(\d\d)(?::(\d\d(?:\.\d*)?))?")
FRACTION = re.compile(r"(\d{6})\.(\d{0,6})\d*")


def allowed(keyword: str, value: str) -> str:
    """Return an attribute's value in a valid form; empty if DICOM has no valid form with the same meaning."""
    kind = dictionary_VR(keyword)
    if keyword in DEFINED_TERMS:
        return value if value in DEFINED_TERMS[keyword] else ""
    if keyword == "TimezoneOffsetFromUTC":
        return value if ZONE.fullmatch(value) and value != "-0000" else ""
    if kind == "DA":
        return _date(value)
    if kind == "TM":
        value = _time(value)
    if kind == "DS" and keyword in POSITIVE and not _is_positive(value):
        return ""
    if kind == "DS" and _is_finite(value):
        value = decimal_string(value)
    return value if RULES[kind].fullmatch(value) else ""


def decimal_string(text: str) -> str:
    """Return a finite number as a decimal string, rounded to at most 16 characters."""
    text = text.strip()
    return text if RULES["DS"].fullmatch(text) else str(format_number_as_ds(float(text)))


def _date(value: str) -> str:
    value = OLD_DATE.sub(r"\1\2\3", value)
    if len(value) != 8 or not value.isascii() or not value.isdigit() or value[0] not in "12":
        return ""  # years before 1000 and after 2999 are invalid
    try:
        datetime.strptime(value, "%Y%m%d")
    except ValueError:
        return ""
    return value


def _time(value: str) -> str:
    old = OLD_TIME.fullmatch(value)
    if old is not None:
        value = "".join(part for part in old.groups() if part)
    fraction = FRACTION.fullmatch(value)
    return value if fraction is None else f"{fraction[1]}.{fraction[2]}".rstrip(".")


def _is_finite(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _is_positive(value: str) -> bool:
    return _is_finite(value) and float(value) > 0
