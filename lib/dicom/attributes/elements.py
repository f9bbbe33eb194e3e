"""Raw elements of a dataset as text and numbers, without pydicom's value classes; no trust in the file.

A value that breaks its representation's rules (real headers do) is read where its meaning is sure, and else it is
malformed, which `AttributeReader` remembers: never a crash, and never taken for one that is missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache

from pydicom import charset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from lib.dicom.attributes.values import (
    BLANKS,
    Moment,
    parse_date,
    parse_datetime_text,
    parse_numbers,
    parse_offset,
    parse_time,
)

SURROGATE = re.compile("[\ud800-\udfff]")
SHOWN_CHARACTERS = 40  # of a malformed value
NOT_SHOWN = "(text)"
MAX_UNSIGNED_SHORT = 0xFFFF
UNSIGNED_LONG, TEXT_NUMBERS = "UL", ("IS", "DS")


class Undelivered(bytes):
    """The value of an element that a PACS names and does not deliver."""


def is_undelivered(dataset: Dataset, tag: int) -> bool:
    """Return whether a PACS names an element and does not deliver its value."""
    element = dataset.get_item(tag)
    return element is not None and isinstance(element.value, Undelivered)


def raw_text(dataset: Dataset, tag: int, encodings: list[str] | None = None) -> str:
    """Return a value's text; empty where the element is absent or empty."""
    element = dataset.get_item(tag)
    value = None if element is None else element.value
    if value is None:
        return ""
    if not isinstance(value, bytes):  # of a PACS's JSON, which can hold half of a character
        text = str(value) if isinstance(value, (str, int, float)) else "\\".join(str(part) for part in value)
        return text if text.isascii() else SURROGATE.sub("\ufffd", text)
    if encodings is None:
        return value.decode("ascii", errors="replace").strip(BLANKS)
    return str(charset.decode_bytes(value, encodings, set())).strip(BLANKS)


def decoded_text(dataset: Dataset, tag: int) -> str:
    """Return text in the file's own character set; a set that nobody knows gives question marks, not an error."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes) and not _is_plain(element.value):
        try:
            encodings = charset.convert_encodings(dataset.get("SpecificCharacterSet", "ISO_IR 6"))
            return raw_text(dataset, tag, encodings)
        except (LookupError, UnicodeError):
            return raw_text(dataset, tag)
    return raw_text(dataset, tag)


def _is_plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value  # an escape switches to another character set


def first_item(dataset: Dataset, tag: int) -> Dataset:
    """Return the first item of a sequence, or an empty dataset."""
    items = items_in(dataset, tag)
    return items[0] if items else Dataset()


def items_in(dataset: Dataset, tag: int) -> list[Dataset]:
    """Return the items of a sequence; none where it is absent, empty or not delivered."""
    if tag not in dataset or is_undelivered(dataset, tag):
        return []
    return list(dataset[tag].value or ())


def text_in(dataset: Dataset, tag: int) -> str:
    """Return text, what is not ASCII as question marks; empty where it is absent."""
    return raw_text(dataset, tag)


def number_in(dataset: Dataset, tag: int) -> float | None:
    """Return the number of a decimal or integer string; None where it is absent, malformed or not finite."""
    return AttributeReader().number(dataset, tag)


def integer_in(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Return an unsigned short, or an integer string; `default` where it is absent or malformed."""
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        size, vr = len(element.value), element.VR or _usual_vr(tag)
        if (size == 2 and vr not in TEXT_NUMBERS) or (size == 4 and vr == UNSIGNED_LONG):
            return int.from_bytes(element.value, "little" if element.is_little_endian else "big")
        number = number_in(dataset, tag)
        return default if number is None else int(number)
    return int(element.value) if element is not None and isinstance(element.value, int) else default


@lru_cache(1024)
def _usual_vr(tag: int) -> str:
    """Return the VR of an element whose file, in implicit VR, does not say it; empty for a private one."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


@lru_cache(1024)
def name_of(tag: int) -> str:
    """Return an attribute's keyword, or for a private one its tag without its block: (7053,xx00)."""
    if (tag >> 16) % 2:
        return f"({tag >> 16:04X},xx{tag & 0xFF:02X})"
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def uid_name(uid: str) -> str:
    """Return what a UID stands for, or the UID itself; damaged ones are no reason for a warning."""
    return UID(uid, config.IGNORE).name


class AttributeReader:
    """Reads attributes one by one, and remembers which are there without a value that can be used.

    Attributes:
        malformed: (keyword, text) of attributes that are there and cannot be read.
        undelivered: Keywords of attributes that a PACS names without their value.
        notes: Of attributes that break DICOM's form and were read: what was written, and as what it was taken; the list
            that was given goes on.
    """

    def __init__(self, notes: list[str] | None = None) -> None:
        self.malformed: list[tuple[str, str]] = []
        self.undelivered: list[str] = []
        self.notes: list[str] = [] if notes is None else notes

    def number(self, dataset: Dataset, tag: int, *, unit: str = "", quoted: bool = True) -> float | None:
        """Return one number; None where it is absent, not sure, not finite, or where several differ.

        Args:
            dataset: The elements.
            tag: Of a decimal or integer string.
            unit: Which unit may stand behind it.
            quoted: Whether a note tells the number: not where each slice has another.
        """
        numbers = self.numbers(dataset, tag, unit=unit, quoted=quoted, same=True)
        return numbers[0] if numbers else None

    def numbers(
        self, dataset: Dataset, tag: int, *, count: int = 0, unit: str = "", quoted: bool = True, same: bool = False
    ) -> tuple[float, ...]:
        """Return all numbers; none where one is not sure, or they are not `count`, or not all the `same`."""
        text = self._text(dataset, tag)
        if not text:
            return ()
        numbers, oddity = _fast(text), ""
        if numbers is None:
            parsed = parse_numbers(text, unit=unit)
            numbers, oddity = parsed if parsed is not None else ((), "")
        if not numbers or (count and len(numbers) != count) or (same and len(set(numbers)) > 1):
            self.malformed.append((name_of(tag), shown(text)))
            return ()
        if oddity:
            self._note(tag, text, oddity, "\\".join(f"{number:.10g}" for number in numbers), quoted=quoted)
        return numbers

    def date(self, dataset: Dataset, tag: int, *, quoted: bool = True) -> str:
        """Return a date as YYYYMMDD; empty where it is absent or malformed."""
        return self._moment(dataset, tag, parse_date, quoted=quoted)

    def time(self, dataset: Dataset, tag: int, *, quoted: bool = True) -> str:
        """Return a time as HHMMSS.FFFFFF, as exact as it is told; empty where it is absent or malformed."""
        return self._moment(dataset, tag, parse_time, quoted=quoted)

    def date_time(self, dataset: Dataset, tag: int) -> str:
        """Return a DT as YYYYMMDDHHMMSS.FFFFFF&ZZXX, as exact as it is told; empty where it is absent or malformed."""
        return self._moment(dataset, tag, parse_datetime_text, quoted=True)

    def offset(self, dataset: Dataset, tag: int) -> str:
        """Return an offset from UTC as +HHMM or -HHMM; empty where it is absent or malformed."""
        return self._moment(dataset, tag, parse_offset, quoted=True)

    def integer(self, dataset: Dataset, tag: int) -> int:
        """Return an unsigned short, or an integer string; 0 where it is absent or malformed."""
        number = integer_in(dataset, tag, -1)
        if 0 <= number <= MAX_UNSIGNED_SHORT:
            return number
        text = self._text(dataset, tag)
        if text:
            self.malformed.append((name_of(tag), shown(text)))
        return 0

    def malformed_message(self) -> str:
        """Return the sentence about all that is malformed."""
        return " and ".join(f"{keyword} {text!r} is malformed" for keyword, text in self.malformed)

    def lost(self, tag: int) -> None:
        """Remember that a PACS does not deliver an attribute."""
        self.undelivered.append(name_of(tag))

    def _text(self, dataset: Dataset, tag: int) -> str:
        element = dataset.get_item(tag)
        if element is None:
            return ""
        if isinstance(element.value, Undelivered):
            self.lost(tag)
            return ""
        return raw_text(dataset, tag)

    def _moment(self, dataset: Dataset, tag: int, parse: Callable[[str], Moment | None], *, quoted: bool) -> str:
        text = self._text(dataset, tag)
        if not text:
            return ""
        moments = {parse(part) for part in text.split("\\")} if "\\" in text else {parse(text)}
        moment = moments.pop()
        if moment is None or moments:
            self.malformed.append((name_of(tag), shown(text)))
            return ""
        if moment.oddity:
            self._note(tag, text, moment.oddity, moment.text, quoted=quoted)
        return moment.text

    def _note(self, tag: int, text: str, oddity: str, read_as: str, *, quoted: bool) -> None:
        name = name_of(tag)
        if quoted:
            self.notes.append(f"{name} {shown(text)!r} is written with {oddity}: read as {read_as}")
        else:
            self.notes.append(f"{name} is written with {oddity}, and is read so")


def _fast(text: str) -> tuple[float, ...] | None:
    """Return numbers in DICOM's own form, which nearly all are; None where a closer look is needed."""
    try:
        numbers = tuple(map(float, text.split("\\")))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) and text.isascii() and "_" not in text else None


def shown(text: str) -> str:
    """Return a malformed value for people: one short printable line, and nothing that may be a person's name."""
    if "^" in text:
        return NOT_SHOWN
    return "".join(character if character.isprintable() else "?" for character in text)[:SHOWN_CHARACTERS]
