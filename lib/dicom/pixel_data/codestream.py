"""What a compressed slice says of itself: rows, columns and samples, read without a decoder.

GDCM makes room for, or crops to, either of two sizes that differ; so they must not differ.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.uid import RLELossless

JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
TILE_PART = b"\xff\x90"  # SOT
MAX_TILES = 2**16 - 1  # an index has 16 bits
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
FRAME_MARKERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}  # SOF of JPEG, SOF55 of JPEG-LS
SCAN = 0xDA
MAX_BOX_BYTES = 4096  # of a JP2 file's boxes in front of its codestream, which DICOM does not allow and some have
RLE_SEGMENTS = struct.Struct("<16I")


class CodestreamSize(NamedTuple):
    """Of the picture; `samples` a pixel."""

    rows: int
    columns: int
    samples: int


def codestream_fault(codestream: bytes, transfer_syntax_uid: str, *, rows: int, columns: int, allocated: int) -> str:
    """Return why a codestream is none of a greyscale slice of this size; empty where it may be.

    Args:
        codestream: All fragments of the slice.
        transfer_syntax_uid: Of the file.
        rows, columns: As the header announces.
        allocated: BitsAllocated.
    """
    if transfer_syntax_uid == RLELossless:
        return _rle_fault(codestream, planes=allocated // 8)
    size = codestream_size(codestream)
    if size is None:
        return "its codestream has no header that tells its size"
    if (size.rows, size.columns) != (rows, columns):
        return f"its codestream holds {size.rows} x {size.columns} pixels, expected Rows {rows} x Columns {columns}"
    if size.samples != 1:
        return f"its codestream holds {size.samples} samples a pixel, expected 1"
    start = codestream.find(JPEG_2000_START, 0, MAX_BOX_BYTES)
    return _tiles_fault(codestream[start:]) if start >= 0 else ""


def codestream_size(codestream: bytes) -> CodestreamSize | None:
    """Return the size that a JPEG, JPEG-LS or JPEG 2000 codestream announces; None where it announces none."""
    try:
        start = codestream.find(JPEG_2000_START, 0, MAX_BOX_BYTES)
        if start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", codestream, start + 8)
            (samples,) = struct.unpack_from(">H", codestream, start + 40)
            return CodestreamSize(bottom - top, right - left, samples)
        return _jpeg_size(codestream) if codestream.startswith(JPEG_START) else None
    except (struct.error, IndexError):
        return None


def _tiles_fault(codestream: bytes) -> str:
    """Return why a JPEG 2000 codestream does not hold each of its tiles (ISO/IEC 15444-1, A.4.2, A.5.1).

    A decoder leaves out what a missing tile would cover, without an error.
    """
    try:
        right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", codestream, 8)
        columns, rows = -(-(right - left) // width), -(-(bottom - top) // height)
        found = _tile_indices(codestream)
    except (struct.error, IndexError, ZeroDivisionError):
        return "its codestream ends before its tiles"
    if not 1 <= columns * rows <= MAX_TILES or found != set(range(columns * rows)):
        return f"its codestream holds {len(found)} tiles, expected {rows} x {columns}"
    return ""


def _tile_indices(codestream: bytes) -> set[int]:
    """Return the index of each tile of which there is a part."""
    found: set[int] = set()
    at = 2  # behind SOC
    while codestream[at : at + 2] != TILE_PART:  # the main header's segments
        at += 2 + struct.unpack_from(">H", codestream, at + 2)[0]
    while codestream[at : at + 2] == TILE_PART:
        index, length = struct.unpack_from(">HI", codestream, at + 4)
        found.add(index)
        if length == 0:  # the last one, up to the end
            break
        at += max(length, 14)  # its own header
    return found


def _jpeg_size(codestream: bytes) -> CodestreamSize | None:
    found: CodestreamSize | None = None
    at = 2
    while codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker == 0xFF or marker in STANDALONE:  # fill byte, or no segment
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", codestream, at + 2)
        if marker in FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", codestream, at + 5)
            if found is not None:
                return None  # two frame headers: decoders take either
            found = CodestreamSize(rows, columns, samples)
        elif marker == SCAN:
            break
        at += 2 + length
    return found


def _rle_fault(codestream: bytes, *, planes: int) -> str:
    """Return why an RLE header (PS3.5 G.5) does not give one segment for each byte of a pixel."""
    if len(codestream) < RLE_SEGMENTS.size:
        return f"its RLE header has {len(codestream)} bytes, expected {RLE_SEGMENTS.size}"
    count, *offsets = RLE_SEGMENTS.unpack_from(codestream)
    if count != planes:
        return f"its RLE header announces {count} segments, expected {planes}, one for each byte of a pixel"
    used = offsets[:count]
    if used[0] != RLE_SEGMENTS.size or sorted(set(used)) != used or used[-1] >= len(codestream):
        return "the segments of its RLE header do not lie one behind the other in the file"
    return ""
