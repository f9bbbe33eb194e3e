"""Deflated DICOM files: pydicom unpacks all of one in memory as soon as it is opened."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from lib.errors import DicomError

DEFLATED = b"1.2.840.10008.1.2.1.99"
META = slice(132, 144)  # the element that tells how long the file meta information is, which is never deflated
META_LENGTH = struct.Struct("<HH2sHI")
MOST_UNPACKED_BYTES = 2**27  # of one file: a slice of 8,000 x 8,000 numbers


def refuse_bomb(file: BinaryIO, name: str) -> None:
    """Return when a file that is open at its beginning is not deflated, or unpacks to no more than a slice.

    Raises:
        DicomError: It unpacks to more, or cannot be unpacked.
    """
    start = file.read(1024)
    if DEFLATED in start and len(start) > META.stop:
        *_, length = META_LENGTH.unpack(start[META])
        file.seek(META.stop + length)
        try:
            unpacked = zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(file.read(), MOST_UNPACKED_BYTES + 1)
        except zlib.error as error:
            raise DicomError(f"{name}: damaged, its deflated part cannot be unpacked; copy it again") from error
        if len(unpacked) > MOST_UNPACKED_BYTES:
            raise DicomError(f"{name}: deflated, unpacks to over {MOST_UNPACKED_BYTES / 1e6:.0f} MB; export it plain")
    file.seek(0)
