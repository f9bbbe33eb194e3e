"""Raw elements of a dataset as text and numbers, without pydicom's value classes.

Headers are untrusted. A value that violates its value representation is read if its meaning is unambiguous; otherwise
`AttributeReader` records it as malformed. It never causes a crash and is never treated as missing.
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
MAX_SHOWN_CHARACTERS = 40  # of a malformed value in a message
HIDDEN_TEXT = "(text)"
MAX_UNSIGNED_SHORT = 0xFFFF
UNSIGNED_LONG, TEXT_NUMBERS = "UL", ("IS", "DS")


class Undelivered(bytes):
    """Placeholder value of an element that a PACS lists without its value."""


def is_undelivered(dataset: Dataset, tag: int) -> bool:
    """Return whether a PACS lists an element without its value."""
    element = dataset.get_item(tag)
    return element is not None and isinstance(element.value, Undelivered)


def raw_text(dataset: Dataset, tag: int, encodings: list[str] | None = None) -> str:
    """Return a value as text; empty if the element is absent or empty."""
    element = dataset.get_item(tag)
    value = None if element is None else element.value
    if value is None:
        return ""
    if not isinstance(value, bytes):  # from DICOM JSON, which can hold lone surrogates
        text = str(value) if isinstance(value, (str, int, float)) else "\\".join(str(part) for part in value)
        return text if text.isascii() else SURROGATE.sub("\ufffd", text)
    if encodings is None:
        return value.decode("ascii", errors="replace").strip(BLANKS)
    return str(charset.decode_bytes(value, encodings, set())).strip(BLANKS)


def decoded_text(dataset: Dataset, tag: int) -> str:
    """Return text decoded by the file's character set; an unknown character set gives question marks, not an error."""
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
    """Return the first item of a sequence, or an empty dataset if there is none."""
    items = items_in(dataset, tag)
    return items[0] if items else Dataset()


def items_in(dataset: Dataset, tag: int) -> list[Dataset]:
    """Return the items of a sequence; none if it is absent, empty or not provided by the PACS."""
    if tag not in dataset or is_undelivered(dataset, tag):
        return []
    return list(dataset[tag].value or ())


def text_in(dataset: Dataset, tag: int) -> str:
    """Return ASCII text, other characters as question marks; empty if the element is absent."""
    return raw_text(dataset, tag)


def number_in(dataset: Dataset, tag: int) -> float | None:
    """Return the number of a decimal or integer string; None if it is absent, malformed or not finite."""
    return AttributeReader().number(dataset, tag)


def integer_in(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Return an unsigned short or an integer string; `default` if it is absent or malformed."""
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
    """Return the dictionary VR of an element in implicit VR; empty for a private element."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


@lru_cache(1024)
def name_of(tag: int) -> str:
    """Return an attribute's keyword, or for a private attribute its tag without the block: (7053,xx00)."""
    if (tag >> 16) % 2:
        return f"({tag >> 16:04X},xx{tag & 0xFF:02X})"
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def uid_name(uid: str) -> str:
    """Return the name of a UID, or the UID itself if it has none; invalid UIDs cause no warning."""
    return UID(uid, config.IGNORE).name


class AttributeReader:
    """A reader of single attributes that records those without a usable value.

    Attributes:
        malformed: (keyword, text) of attributes that are present but cannot be read.
        undelivered: Keywords of attributes that a PACS lists without their value.
        notes: Of attributes that violate their value representation but were read: the text found and the value used.
            Appended to the list passed as argument, if any.
    """

    def __init__(self, notes: list[str] | None = None) -> None:
        self.malformed: list[tuple[str, str]] = []
        self.undelivered: list[str] = []
        self.notes: list[str] = [] if notes is None else notes

    def number(self, dataset: Dataset, tag: int, *, unit: str = "", quoted: bool = True) -> float | None:
        """Return one number; None if it is absent, ambiguous, not finite, or has several different values.

        Args:
            dataset: The elements.
            tag: Tag of a decimal or integer string.
            unit: Unit that may follow the number.
            quoted: Whether a note quotes the number; False for values that differ by slice.
        """
        numbers = self.numbers(dataset, tag, unit=unit, quoted=quoted, same=True)
        return numbers[0] if numbers else None

    def numbers(
        self, dataset: Dataset, tag: int, *, count: int = 0, unit: str = "", quoted: bool = True, same: bool = False
    ) -> tuple[float, ...]:
        """Return all numbers; none if one is ambiguous, their number is not `count`, or they are not all the `same`."""
        text = self._text(dataset, tag)
        if not text:
            return ()
        numbers, oddity = _fast(text), ""
        if numbers is None:
            parsed = parse_numbers(text, unit=unit)
            numbers, oddity = parsed if parsed is not None else ((), "")
        if not numbers or (count and len(numbers) != count) or (same and len(set(numbers)) > 1):
            self.malformed.append((name_of(tag), printable(text)))
            return ()
        if oddity:
            self._note(tag, text, oddity, "\\".join(f"{number:.10g}" for number in numbers), quoted=quoted)
        return numbers

    def date(self, dataset: Dataset, tag: int, *, quoted: bool = True) -> str:
        """Return a date as YYYYMMDD; empty if it is absent or malformed."""
        return self._moment(dataset, tag, parse_date, quoted=quoted)

    def time(self, dataset: Dataset, tag: int, *, quoted: bool = True) -> str:
        """Return a time as HHMMSS.FFFFFF with the precision of the header; empty if it is absent or malformed."""
        return self._moment(dataset, tag, parse_time, quoted=quoted)

    def date_time(self, dataset: Dataset, tag: int) -> str:
        """Return a DT as YYYYMMDDHHMMSS.FFFFFF&ZZXX with the header's precision; empty if it is absent or malformed."""
        return self._moment(dataset, tag, parse_datetime_text, quoted=True)

    def offset(self, dataset: Dataset, tag: int) -> str:
        """Return an offset from UTC as +HHMM or -HHMM; empty if it is absent or malformed."""
        return self._moment(dataset, tag, parse_offset, quoted=True)

    def integer(self, dataset: Dataset, tag: int) -> int:
        """Return an unsigned short or an integer string; 0 if it is absent or malformed."""
        number = integer_in(dataset, tag, -1)
        if 0 <= number <= MAX_UNSIGNED_SHORT:
            return number
        text = self._text(dataset, tag)
        if text:
            self.malformed.append((name_of(tag), printable(text)))
        return 0

    def malformed_message(self) -> str:
        """Return a sentence that lists all malformed attributes."""
        return " and ".join(f"{keyword} {text!r} is malformed" for keyword, text in self.malformed)

    def add_undelivered(self, tag: int) -> None:
        """Record that a PACS does not provide the value of an attribute."""
        self.undelivered.append(name_of(tag))

    def _text(self, dataset: Dataset, tag: int) -> str:
        element = dataset.get_item(tag)
        if element is None:
            return ""
        if isinstance(element.value, Undelivered):
            self.add_undelivered(tag)
            return ""
        return raw_text(dataset, tag)

    def _moment(self, dataset: Dataset, tag: int, parse: Callable[[str], Moment | None], *, quoted: bool) -> str:
        text = self._text(dataset, tag)
        if not text:
            return ""
        moments = {parse(part) for part in text.split("\\")} if "\\" in text else {parse(text)}
        moment = moments.pop()
        if moment is None or moments:
            self.malformed.append((name_of(tag), printable(text)))
            return ""
        if moment.oddity:
            self._note(tag, text, moment.oddity, moment.text, quoted=quoted)
        return moment.text

    def _note(self, tag: int, text: str, oddity: str, read_as: str, *, quoted: bool) -> None:
        name = name_of(tag)
        if quoted:
            self.notes.append(f"{name} {printable(text)!r} contains {oddity}: read as {read_as}")
        else:
            self.notes.append(f"{name} contains {oddity} and is read accordingly")


def _fast(text: str) -> tuple[float, ...] | None:
    """Return numbers in DICOM's standard form, as nearly all are; None if full parsing is needed."""
    try:
        numbers = tuple(map(float, text.split("\\")))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) and text.isascii() and "_" not in text else None


def printable(text: str) -> str:
    """Return a malformed value for a message: one short printable line without a possible person's name."""
    if "^" in text:
        return HIDDEN_TEXT
    return "".join(character if character.isprintable() else "?" for character in text)[:MAX_SHOWN_CHARACTERS]
