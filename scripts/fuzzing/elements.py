"""Locate the elements of a DICOM file as byte ranges, for mutations that no DICOM writer could produce."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

META_START = 132
LONG = frozenset({"OB", "OD", "OF", "OL", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})  # 32-bit lengths
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END, PIXEL_DATA = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


@dataclass(frozen=True)
class Encoding:
    """The encoding of elements: explicit or implicit VR, and the byte order ("<" or ">")."""

    explicit: bool = True
    order: str = "<"

    def head(self, tag: int, vr: str, length: int) -> bytes:
        """Return the header of an element."""
        start = struct.pack(f"{self.order}HH", tag >> 16, tag & 0xFFFF)
        if not self.explicit or tag >> 16 == 0xFFFE:
            return start + struct.pack(f"{self.order}I", length)
        if vr in LONG:
            return start + vr.encode("latin-1") + struct.pack(f"{self.order}HI", 0, length)
        return start + vr.encode("latin-1") + struct.pack(f"{self.order}H", length & 0xFFFF)

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Return a complete element; pad odd values with a space, or with a zero byte if they are not text."""
        padding = b"" if len(value) % 2 == 0 else b"\0" if vr in LONG | {"UI"} else b" "
        return self.head(tag, vr, len(value + padding)) + value + padding


@dataclass(frozen=True)
class Element:
    """The position of an element in its file.

    Attributes:
        tag: Group and element.
        vr: Value representation; empty with implicit VR.
        start, value_start, end: Offsets in the file, bytes; `end` is also the end of the value.
        depth: Nesting depth in sequences; 0 at the top level.
        encoding: Encoding of the element.
    """

    tag: int
    vr: str
    start: int
    value_start: int
    end: int
    depth: int
    encoding: Encoding


def elements_of(file: bytes) -> list[Element]:
    """Return all elements of an intact file in file order; a sequence precedes its nested elements."""
    meta, position = [], META_START
    while position < len(file) and file[position : position + 2] == b"\x02\x00":
        element = _element(file, position, Encoding(), 0)
        meta.append(element)
        position = element.end
    syntax = next((file[e.value_start : e.end] for e in meta if e.tag == TRANSFER_SYNTAX), b"").decode().strip("\0 ")
    encoding = Encoding(explicit=syntax != IMPLICIT, order=">" if syntax == BIG_ENDIAN else "<")
    return meta + _all(file, position, len(file), encoding, 0)


def _all(file: bytes, position: int, end: int, encoding: Encoding, depth: int) -> list[Element]:
    found = []
    while position + 8 <= end:
        element = _element(file, position, encoding, depth)
        if element.tag in (ITEM_END, SEQUENCE_END):
            break
        found.append(element)
        if element.vr == "SQ":
            found += _items(file, element, depth)
        position = element.end
    return found


def _element(file: bytes, position: int, encoding: Encoding, depth: int) -> Element:
    group, number = struct.unpack_from(f"{encoding.order}HH", file, position)
    tag, vr, value_start = (group << 16) | number, "", position + 8
    if encoding.explicit and group != 0xFFFE:
        vr = file[position + 4 : position + 6].decode("latin-1")
    if vr in LONG:
        value_start, length = position + 12, struct.unpack_from(f"{encoding.order}I", file, position + 8)[0]
    elif vr:
        length = struct.unpack_from(f"{encoding.order}H", file, position + 6)[0]
    else:
        length = struct.unpack_from(f"{encoding.order}I", file, position + 4)[0]
    element = Element(tag, vr, position, value_start, value_start + length, depth, encoding)
    return element if length != UNDEFINED else replace(element, end=_end_of_undefined(file, element))


def _end_of_undefined(file: bytes, element: Element) -> int:
    """Return the end of a value of undefined length, including its delimiter."""
    position, encoding = element.value_start, element.encoding
    closing = ITEM_END if element.tag == ITEM else SEQUENCE_END
    while position + 8 <= len(file):
        inner = _element(file, position, encoding, element.depth + 1)
        position = inner.end
        if inner.tag == closing:
            return position
    return len(file)


def _items(file: bytes, sequence: Element, depth: int) -> list[Element]:
    found, position = [], sequence.value_start
    while position + 8 <= sequence.end:
        item = _element(file, position, sequence.encoding, depth + 1)
        if item.tag != ITEM:
            break
        found += _all(file, item.value_start, item.end, sequence.encoding, depth + 1)
        position = item.end
    return found
