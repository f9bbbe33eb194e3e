"""Rows, columns and samples of a compressed slice, parsed from its codestream without a decoder.

If the sizes in the header and in the codestream differ, GDCM pads or crops to either; hence they must be equal.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom.uid import RLELossless

JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
TILE_PART = b"\xff\x90"  # SOT
MAX_TILES = 2**16 - 1  # the tile index has 16 bits
STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
FRAME_MARKERS = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}  # SOF of JPEG, SOF55 of JPEG-LS
SCAN = 0xDA
MAX_BOX_BYTES = 4096  # JP2 boxes before the codestream, which DICOM does not allow but some files contain
RLE_SEGMENTS = struct.Struct("<16I")


class CodestreamSize(NamedTuple):
    """Size of the image; `samples` is the number of samples per pixel."""

    rows: int
    columns: int
    samples: int


def codestream_fault(codestream: bytes, transfer_syntax_uid: str, *, rows: int, columns: int, allocated: int) -> str:
    """Return why a codestream is not a greyscale slice of the expected size; empty if it may be one.

    Args:
        codestream: All fragments of the slice.
        transfer_syntax_uid: TransferSyntaxUID of the file.
        rows, columns: Size in the header.
        allocated: BitsAllocated.
    """
    if transfer_syntax_uid == RLELossless:
        return _rle_fault(codestream, planes=allocated // 8)
    size = codestream_size(codestream)
    if size is None:
        return "its codestream has no header with its size"
    if (size.rows, size.columns) != (rows, columns):
        return f"its codestream has {size.rows} x {size.columns} pixels, expected Rows {rows} x Columns {columns}"
    if size.samples != 1:
        return f"its codestream has {size.samples} samples per pixel, expected 1"
    start = codestream.find(JPEG_2000_START, 0, MAX_BOX_BYTES)
    return _tiles_fault(codestream[start:]) if start >= 0 else ""


def codestream_size(codestream: bytes) -> CodestreamSize | None:
    """Return the size that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None if it declares none."""
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
    """Return why a JPEG 2000 codestream is not complete; empty if it has all tiles (ISO/IEC 15444-1, A.4.2, A.5.1).

    A decoder skips missing tiles without an error.
    """
    try:
        right, bottom, _, _, width, height, left, top = struct.unpack_from(">8I", codestream, 8)
        columns, rows = -(-(right - left) // width), -(-(bottom - top) // height)
        found = _tile_indices(codestream)
    except (struct.error, IndexError, ZeroDivisionError):
        return "its codestream ends before its tiles"
    if not 1 <= columns * rows <= MAX_TILES or found != set(range(columns * rows)):
        return f"its codestream has {len(found)} tiles, expected {rows} x {columns}"
    return ""


def _tile_indices(codestream: bytes) -> set[int]:
    """Return the index of each tile that has at least one tile-part."""
    found: set[int] = set()
    at = 2  # after SOC
    while codestream[at : at + 2] != TILE_PART:  # segments of the main header
        at += 2 + struct.unpack_from(">H", codestream, at + 2)[0]
    while codestream[at : at + 2] == TILE_PART:
        index, length = struct.unpack_from(">HI", codestream, at + 4)
        found.add(index)
        if length == 0:  # the last tile-part, which extends to the end
            break
        at += max(length, 14)  # the size of its header
    return found


def _jpeg_size(codestream: bytes) -> CodestreamSize | None:
    found: CodestreamSize | None = None
    at = 2
    while codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker == 0xFF or marker in STANDALONE:  # fill byte, or marker without a segment
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", codestream, at + 2)
        if marker in FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", codestream, at + 5)
            if found is not None:
                return None  # two frame headers: decoders use either
            found = CodestreamSize(rows, columns, samples)
        elif marker == SCAN:
            break
        at += 2 + length
    return found


def _rle_fault(codestream: bytes, *, planes: int) -> str:
    """Return why an RLE header (PS3.5 G.5) does not have one segment per byte of a pixel; empty if it does."""
    if len(codestream) < RLE_SEGMENTS.size:
        return f"its RLE header has {len(codestream)} bytes, expected {RLE_SEGMENTS.size}"
    count, *offsets = RLE_SEGMENTS.unpack_from(codestream)
    if count != planes:
        return f"its RLE header has {count} segments, expected {planes}, one per byte of a pixel"
    used = offsets[:count]
    if used[0] != RLE_SEGMENTS.size or sorted(set(used)) != used or used[-1] >= len(codestream):
        return "the segments of its RLE header are not consecutive in the file"
    return ""
