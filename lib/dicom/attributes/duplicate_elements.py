"""Detection of duplicate data elements, of which parsers use either the first or the last."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import BinaryIO

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag

from lib.dicom.attributes.file_meta import LONG_VRS
from lib.errors import DicomError

PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# Sequences that are read: radiopharmaceuticals, modality LUTs, shared and per-frame functional groups
SEQUENCES = frozenset({0x00540016, 0x00283000, 0x52009229, 0x52009230})
ITEM, ITEM_END, SEQUENCE_END, DELIMITERS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFE
UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 16  # of nested items; functional groups have 4


class DuplicateElementGuard:
    """A `stop_when` callback for pydicom's `read_dataset` that rejects duplicate elements.

    Args:
        file: The file being parsed.
        is_implicit: Whether elements have no explicit VR.
        order: Byte order character of `struct`.
        ends_at_pixels: Whether parsing ends at the pixel data.
        meaningful: Tags that must not follow the pixel data.
    """

    def __init__(
        self, file: BinaryIO, *, is_implicit: bool, order: str, ends_at_pixels: bool, meaningful: frozenset[int]
    ) -> None:
        self.pixels_at = 0  # offset of the pixel data value
        self._file, self._is_implicit, self._order = file, is_implicit, order
        self._ends_at_pixels, self._meaningful = ends_at_pixels, meaningful
        self._seen: set[int] = set()

    def __call__(self, tag: int, _vr: str | None, length: int) -> bool:
        """Return whether parsing ends here; the file is positioned at the element's value.

        Raises:
            DicomError: The element, or one nested in it, is a duplicate.
        """
        tag = int(tag)
        if self.pixels_at:
            if tag in self._meaningful or tag in PIXELS:
                raise DicomError(f"{tag_name(tag)} follows the pixel data, where readers interpret it differently")
            return tag >> 16 in (0, DELIMITERS)  # zeros and delimiters that some writers append
        if tag in self._seen:
            raise duplicate_error(tag)
        if tag >> 16 == DELIMITERS:
            raise DicomError(f"damaged: a delimiter {tag_name(tag)} outside sequences; copy it again")
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
            raise DicomError(f"damaged: sequences are nested more than {MAX_DEPTH} deep")
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
                raise duplicate_error(tag)
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
        """Return tag, VR and length of an element; tag 0 at the end of the file."""
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
    """Return the dictionary VR of an element in implicit VR; empty if it is not in the dictionary."""
    return dictionary_VR(tag).encode()[:2] if dictionary_has_tag(tag) else b""


def tag_name(tag: int) -> str:
    """Return the keyword of a tag, or the tag itself if it has none."""
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def duplicate_error(tag: int) -> DicomError:
    """Return the error for a duplicate element."""
    return DicomError(
        f"{tag_name(tag)} occurs twice in the header, expected once: the intended value is unknown; export it again"
    )
