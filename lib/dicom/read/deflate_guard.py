"""Deflated DICOM files, unpacked up to the size of a slice: pydicom unpacks all of one as soon as it is opened."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

from lib.errors import DicomError

MAX_UNPACKED_BYTES = 2**26  # of one file: a slice of 4,096 x 4,096 numbers of 32 bits
MAX_TIMES_PACKED = 100  # CTs pack 2 to 5 times, empty slices more; a bomb 1,000 times
ALWAYS_UNPACKED_BYTES = 2**22
CHUNK_BYTES = 2**16


def inflated(file: BinaryIO) -> BinaryIO:
    """Return what a file unpacks to from where it stands.

    Raises:
        DicomError: It unpacks to more than a slice takes, or cannot be unpacked.
    """
    unpacker, unpacked, packed_bytes = zlib.decompressobj(wbits=-zlib.MAX_WBITS), io.BytesIO(), 0
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(CHUNK_BYTES)
        packed_bytes += 0 if unpacker.unconsumed_tail else len(packed)
        try:
            piece = unpacker.decompress(packed, CHUNK_BYTES)
        except zlib.error as error:
            raise DicomError("damaged, its deflated part cannot be unpacked; copy it again") from error
        if not packed and not piece:
            raise DicomError("damaged, its deflated part ends too early; copy it again")
        unpacked.write(piece)
        size = unpacked.tell()
        if size > MAX_UNPACKED_BYTES:
            raise DicomError(f"deflated, unpacks to over {MAX_UNPACKED_BYTES / 1e6:.0f} MB; export it plain")
        if size > max(ALWAYS_UNPACKED_BYTES, MAX_TIMES_PACKED * packed_bytes):
            raise DicomError(f"deflated, unpacks to over {MAX_TIMES_PACKED} times its size; export it plain")
    unpacked.seek(0)
    return unpacked
