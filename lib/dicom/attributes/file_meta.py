"""File meta information of a DICOM file, parsed before pydicom so that nothing is inflated without a size limit."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian

from lib.errors import DicomError

PREAMBLE_BYTES = 132
META_GROUP, TRANSFER_SYNTAX = 0x0002, 0x00020010
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
MAX_META_BYTES = 2**20  # usually a few hundred bytes; private elements may be larger
SHORT = struct.Struct("<HH2sH")


@dataclass(frozen=True)
class FileMeta:
    """The position and encoding of the data set.

    Attributes:
        start: Offset in bytes of the first element of the meta information.
        end: Offset in bytes of the data set.
        transfer_syntax_uid: TransferSyntaxUID; empty if absent.
    """

    start: int
    end: int
    transfer_syntax_uid: str

    @property
    def is_deflated(self) -> bool:
        """Whether the data set is deflated."""
        return self.transfer_syntax_uid == DeflatedExplicitVRLittleEndian


def read_file_meta(file: BinaryIO) -> FileMeta:
    """Return the file meta information, whose end is found by parsing instead of by its group length.

    Args:
        file: File positioned at its beginning; its position changes.

    Raises:
        DicomError: The meta information is damaged, too large, or has a duplicate element.
    """
    start = PREAMBLE_BYTES if file.read(PREAMBLE_BYTES)[128:] == b"DICM" else 0
    at, syntax, seen = start, b"", set()
    while True:
        file.seek(at)
        head = file.read(SHORT.size)
        if len(head) < SHORT.size:
            break
        group, element, vr, length = SHORT.unpack(head)
        if group != META_GROUP:
            break
        tag = group << 16 | element
        if vr in LONG_VRS:
            (length,) = struct.unpack("<I", file.read(4).ljust(4, b"\xff"))
        elif not (vr.isalpha() and vr.isupper()):  # implicit VR, as old programs write it
            (length,) = struct.unpack("<I", head[4:])
        if tag in seen:
            raise DicomError(f"(0002,{element:04X}) occurs twice in the file meta information; export it again")
        if length > MAX_META_BYTES or file.tell() + length > start + MAX_META_BYTES:
            raise DicomError("damaged: its file meta information does not end; copy it again")
        seen.add(tag)
        value = file.read(length)
        if tag == TRANSFER_SYNTAX:
            syntax = value
        at = file.tell()
    return FileMeta(start, at, syntax.rstrip(b"\0 ").decode("ascii", errors="replace"))
