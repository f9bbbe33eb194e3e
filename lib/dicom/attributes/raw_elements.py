"""Raw elements that are copied between datasets, encoded as in a file."""

from __future__ import annotations

import struct

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

Elements = dict[BaseTag, DataElement | RawDataElement]
BINARY_NUMBERS = {"US": "H", "UL": "I", "FL": "f", "FD": "d"}  # struct's format characters


def elements_of(dataset: Dataset) -> Elements:
    """Return the elements by tag, without parsing them."""
    return dict(dataset.items())


def binary_number(dataset: Dataset, tag: int) -> float | None:
    """Return the first number of a binary element (FD, FL, UL, US); None if it is absent."""
    element = dataset.get_item(tag)
    if element is None or element.value is None:
        return None
    value = element.value
    if isinstance(element, RawDataElement) and isinstance(value, bytes):
        letter = BINARY_NUMBERS[dictionary_VR(tag)]
        order = "<" if element.is_little_endian else ">"
        size = struct.calcsize(letter)
        return float(struct.unpack(f"{order}{letter}", value[:size])[0]) if len(value) >= size else None
    first = value if isinstance(value, (int, float)) else next(iter(value), None)
    return None if first is None or isinstance(first, str) else float(first)


def set_text(dataset: Dataset, tag: int, text: str) -> None:
    """Set an element to text as raw bytes, without validating it against its value representation."""
    value = text.encode("ascii", errors="replace")
    dataset[tag] = RawDataElement(BaseTag(tag), dictionary_VR(tag), len(value), value, 0, False, True)
