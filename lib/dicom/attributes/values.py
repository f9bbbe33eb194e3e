"""Parsing of numbers, dates and times in DICOM text: standard formats, and others that are unambiguous.

Ambiguous text is not parsed: `1,024` may be 1.024 or 1024, `01/02/2024` may be in January or February.
"""

from __future__ import annotations

import math
import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

BLANKS = " \t\r\n\0"
PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
COMMA = re.compile(r"[+-]?(\d*),(\d+)([eE][+-]?\d+)?", re.ASCII)
NUMBER_AND_UNIT = re.compile(r"(.*?\d)\s*([A-Za-z]+)", re.ASCII)
THOUSANDS = re.compile(r"[1-9]\d{0,2}", re.ASCII)  # digits before a thousands separator
DATE = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})", re.ASCII)
TIME = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:([.,])(\d*))?)?)?", re.ASCII)
CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:([.,])(\d*))?)?", re.ASCII)
DATETIME = re.compile(r"(\d{4}([.\-/]?)\d{2}\2\d{2})(?:([T ]+)?(\d[\d:.,]*))?\s*(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
YEAR_OR_MONTH = re.compile(r"\d{4}(?:0[1-9]|1[0-2])?(?:[+-]\d{4})?", re.ASCII)
OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
MAX_OFFSET_H = 14  # PS3.5 table 6.2-1: -1200 to +1400
FRACTION_DIGITS = 6
CACHE_SIZE = 4096  # parsed texts; most slices of a series have equal values

DECIMAL_COMMA = "a decimal comma"
OTHER_DATE = "dashes or slashes"
OTHER_CLOCK = "a clock's or ISO 8601's signs"


class Numbers(NamedTuple):
    """Numbers, and a description of what violates DICOM in their text; empty for valid text."""

    values: tuple[float, ...]
    oddity: str


class Moment(NamedTuple):
    """A date or time in DICOM's current form, and a description of what violates DICOM in its text."""

    text: str
    oddity: str


def parse_numbers(text: str, *, unit: str = "") -> Numbers | None:
    r"""Return the numbers of a decimal or integer string (DS, IS) of one or more values; None if one is ambiguous.

    Args:
        text: `70.5`, `1.6\1.6`, `88,7`, `4,8E+08`, `88.7 kg`.
        unit: The attribute's unit, which may follow a number; other units are not converted.
    """
    oddities = []
    parts = [part.strip(BLANKS) for part in text.split("\\")]
    if unit and not all(map(PLAIN.fullmatch, parts)):
        with_unit = [NUMBER_AND_UNIT.fullmatch(part) for part in parts]
        known = [match is not None and match[2].casefold() == unit.casefold() for match in with_unit]
        if any(known):
            parts = [m[1] if m is not None and k else part for part, m, k in zip(parts, with_unit, known, strict=True)]
            oddities.append(f"its unit {unit}")
    commas = [match for part in parts if (match := COMMA.fullmatch(part))]
    if commas:
        if not any(map(_is_decimal_comma, commas)):
            return None
        parts = [part.replace(",", ".") if COMMA.fullmatch(part) else part for part in parts]
        oddities.append(DECIMAL_COMMA)
    if not all(map(PLAIN.fullmatch, parts)):
        return None
    numbers = tuple(map(float, parts))
    return Numbers(numbers, " and ".join(oddities)) if all(map(math.isfinite, numbers)) else None


def _is_decimal_comma(match: re.Match[str]) -> bool:
    """Return whether the comma cannot be a thousands separator, as in 1,024."""
    integer, fraction, exponent = match.groups()
    return bool(exponent) or len(fraction) != 3 or THOUSANDS.fullmatch(integer) is None


@lru_cache(CACHE_SIZE)
def parse_date(text: str) -> Moment | None:
    """Return a DA as YYYYMMDD; None for an invalid date, or one whose day and month may be swapped.

    `2024.01.15` is the format of ACR-NEMA, which readers should support (PS3.5 table 6.2-1, note).
    """
    match = DATE.fullmatch(text.strip(BLANKS))
    if match is None:
        return None
    year, sign, month, day = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return Moment(year + month + day, OTHER_DATE if sign in ("-", "/") else "")


@lru_cache(CACHE_SIZE)
def parse_time(text: str) -> Moment | None:
    """Return a TM as HH, HHMM, HHMMSS or HHMMSS.FFFFFF, with the precision of the text; None for an invalid time.

    `10:30:00` is the format of ACR-NEMA. A leap second becomes the second before it.
    """
    text = text.strip(BLANKS)
    plain = TIME.fullmatch(text)
    match = plain or CLOCK.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, point, fraction = match.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    second = "59" if second == "60" else second
    normalized = hour.zfill(2) + (minute or "") + (second or "")
    if fraction:
        normalized += f".{fraction[:FRACTION_DIGITS]}"
    if point == ",":
        return Moment(normalized, DECIMAL_COMMA)
    return Moment(normalized, OTHER_CLOCK if plain is None and len(hour) < 2 else "")


@lru_cache(CACHE_SIZE)
def parse_datetime_text(text: str) -> Moment | None:
    """Return a DT as YYYYMMDDHHMMSS.FFFFFF&ZZXX, with the precision of the text; None for an invalid date and time."""
    text = text.strip(BLANKS)
    if YEAR_OR_MONTH.fullmatch(text):
        return Moment(text, "")
    match = DATETIME.fullmatch(text)
    if match is None:
        return None
    day, sign, between, clock, zone = match.groups()
    parsed_date, parsed_time = parse_date(day), parse_time(clock) if clock else Moment("", "")
    offset = parse_offset(zone) if zone else Moment("", "")
    if parsed_date is None or parsed_time is None or offset is None:
        return None
    is_odd = bool(sign or between or ":" in (clock or "") or offset.oddity)
    oddity = parsed_time.oddity or (OTHER_CLOCK if is_odd else "")
    return Moment(parsed_date.text + parsed_time.text + offset.text, oddity)


def parse_offset(text: str) -> Moment | None:
    """Return an offset from UTC as +HHMM or -HHMM; None if it is invalid."""
    text = text.strip(BLANKS)
    if text == "Z":
        return Moment("+0000", OTHER_CLOCK)
    match = OFFSET.fullmatch(text)
    if match is None or int(match[2]) > MAX_OFFSET_H or int(match[3]) > 59:
        return None
    return Moment("".join(match.groups()), OTHER_CLOCK if ":" in text else "")
