"""Inflation of deflated DICOM files with a size limit, which pydicom does not have."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

from lib.errors import DicomError

MAX_UNPACKED_BYTES = 2**26  # of one file: a slice of 4,096 x 4,096 numbers of 32 bits
MAX_TIMES_PACKED = 100  # CTs compress 2 to 5 times, empty slices more, zip bombs 1,000 times
MIN_LIMIT_BYTES = 2**22
CHUNK_BYTES = 2**16


def inflate(file: BinaryIO) -> BinaryIO:
    """Return the inflated content of a file from its current position.

    Raises:
        DicomError: The content is larger than a slice can be, or is damaged.
    """
    decompressor, inflated, compressed_bytes = zlib.decompressobj(wbits=-zlib.MAX_WBITS), io.BytesIO(), 0
    while not decompressor.eof:
        compressed = decompressor.unconsumed_tail or file.read(CHUNK_BYTES)
        compressed_bytes += 0 if decompressor.unconsumed_tail else len(compressed)
        try:
            piece = decompressor.decompress(compressed, CHUNK_BYTES)
        except zlib.error as error:
            raise DicomError("damaged, its deflated data cannot be inflated; copy it again") from error
        if not compressed and not piece:
            raise DicomError("damaged, its deflated data is truncated; copy it again")
        inflated.write(piece)
        size = inflated.tell()
        if size > MAX_UNPACKED_BYTES:
            raise DicomError(f"deflated, inflates to over {MAX_UNPACKED_BYTES / 1e6:.0f} MB; export it uncompressed")
        if size > max(MIN_LIMIT_BYTES, MAX_TIMES_PACKED * compressed_bytes):
            raise DicomError(f"deflated, inflates to over {MAX_TIMES_PACKED} times its size; export it uncompressed")
    inflated.seek(0)
    return inflated
