"""Elements that stand in a file twice: of two values of one attribute, parsers take the first or the last."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from lib.dicom.attributes.file_meta import LONG_VRS
from lib.errors import DicomError

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# Radiopharmaceuticals, tables instead of a slope, shared and per-frame functional groups: what is read of sequences
SEQUENCES = frozenset({0x00540016, 0x00283000, 0x52009229, 0x52009230})
ITEM, ITEM_END, SEQUENCE_END, DELIMITERS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFE
UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 16  # of items in items; functional groups have 4


class DuplicateElementGuard:
    """Watches elements as a parser meets them.

    Args:
        file: Which is parsed.
        is_implicit: Without value representations.
        order: Of bytes, as `struct` writes it.
        ends_at_pixels: Whether parsing ends there.
        meaningful: Tags that must not stand behind the pixels.
    """

    def __init__(
        self, file: BinaryIO, *, is_implicit: bool, order: str, ends_at_pixels: bool, meaningful: frozenset[int]
    ) -> None:
        self.pixels_at = 0  # where the value of the pixel data begins
        self._file, self._is_implicit, self._order = file, is_implicit, order
        self._ends_at_pixels, self._meaningful = ends_at_pixels, meaningful
        self._seen: set[int] = set()

    def __call__(self, tag: int, _vr: str | None, length: int) -> bool:
        """Return whether parsing ends here; the file stands where the element's value begins.

        Raises:
            DicomError: It, or an element within it, is there for the second time.
        """
        tag = int(tag)
        if self.pixels_at:
            if tag in self._meaningful or tag in PIXELS:
                raise DicomError(f"{named(tag)} stands behind the pixels, where readers do not agree on it")
            return tag >> 16 in (0, DELIMITERS)  # zeros, and what some writers put there
        if tag in self._seen:
            raise twice(tag)
        if tag >> 16 == DELIMITERS:
            raise DicomError(f"damaged: a delimiter {named(tag)} outside sequences; copy it again")
        self._seen.add(tag)
        if tag in PIXELS:
            self.pixels_at = self._file.tell()
            return self._ends_at_pixels
        if tag in SEQUENCES:
            start = self._file.tell()
            self._items(length, 0)
            self._file.seek(start)
        return False

    def _items(self, length: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise DicomError(f"damaged: sequences within sequences, over {MAX_DEPTH} deep")
        end = self._end(length)
        while end is None or self._file.tell() < end:
            tag, length = self._item_head()
            if tag != ITEM:
                return
            self._item(length, depth)

    def _item(self, length: int, depth: int) -> None:
        end, seen = self._end(length), set()
        while end is None or self._file.tell() < end:
            tag, vr, length = self._head()
            if tag in (0, ITEM_END, SEQUENCE_END):
                return
            if tag in seen:
                raise twice(tag)
            seen.add(tag)
            if vr == b"SQ" or length == UNDEFINED:
                inner = self._end(length)
                self._items(length, depth + 1)
                if inner is not None:
                    self._file.seek(inner)
            else:
                self._file.seek(length, 1)

    def _end(self, length: int) -> int | None:
        return None if length == UNDEFINED else self._file.tell() + length

    def _item_head(self) -> tuple[int, int]:
        head = self._file.read(8)
        if len(head) < 8:
            return 0, 0
        group, element, length = struct.unpack(f"{self._order}HHI", head)
        return group << 16 | element, length

    def _head(self) -> tuple[int, bytes, int]:
        """Return tag, VR and length of an element; 0 where the file ends."""
        head = self._file.read(8)
        if len(head) < 8:
            return 0, b"", 0
        group, element, length = struct.unpack(f"{self._order}HHI", head)
        tag = group << 16 | element
        if group == DELIMITERS:
            return tag, b"", length
        vr = head[4:6]
        if self._is_implicit or not (vr.isalpha() and vr.isupper()):
            return tag, usual_vr(tag), length
        if vr in LONG_VRS:
            more = self._file.read(4)
            return tag, vr, struct.unpack(f"{self._order}I", more)[0] if len(more) == 4 else 0
        return tag, vr, struct.unpack(f"{self._order}H", head[6:])[0]


@lru_cache(1024)
def usual_vr(tag: int) -> bytes:
    """Return the VR of an element whose file does not say it; empty for one that no dictionary has."""
    return dictionary_VR(tag).encode()[:2] if dictionary_has_tag(tag) else b""


def named(tag: int) -> str:
    """Return the keyword of a tag, or the tag."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def twice(tag: int) -> DicomError:
    """Return the error of an element that is there twice."""
    return DicomError(f"{named(tag)} stands in the header twice: which value is meant cannot be told; export it again")
