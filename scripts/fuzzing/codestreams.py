"""Compress a CT series with every codec of a PACS, and split its codestreams into segments for mutations.

This module works on bytes and does not use the readers under test. JPEG lossless and JPEG-LS need dcmtk.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.fuzzing.elements import ITEM, PIXEL_DATA, SEQUENCE_END, TRANSFER_SYNTAX, UNDEFINED, Encoding, elements_of

META_LENGTH, ROWS, COLUMNS, INTERCEPT, SLOPE = 0x00020000, 0x00280010, 0x00280011, 0x00281052, 0x00281053
BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGN = 0x00280100, 0x00280101, 0x00280102, 0x00280103
RLE, BASELINE, JPEG_2000 = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
DCMTK = {"jpeg-lossless": ("dcmcjpeg", "+e1"), "jpeg-ls": ("dcmcjpls",)}
PLAIN = Encoding()
Pixels = NDArray[np.integer[Any]]
Values = Mapping[int, tuple[str, bytes]]  # VR and value by tag


def write_compressed_series(ct: Path, folder: Path) -> dict[str, Path]:
    """Write an uncompressed CT (signed 16 bit, slope 1, explicit VR) in each compression; return folders by codec."""
    written = {}
    encoders: dict[str, Callable[[Pixels], tuple[bytes, Values]]] = {
        "rle": _rle_16, "jpeg-2000": _jpeg_2000, "jpeg-baseline": _jpeg_8,
    }  # fmt: skip
    for codec, encode in encoders.items():
        written[codec] = folder / f"ct-{codec}"
        written[codec].mkdir(parents=True)
        for path in sorted(ct.iterdir()):
            file = path.read_bytes()
            codestream, values = encode(_pixels(file))
            (written[codec] / path.name).write_bytes(with_pixels(with_values(file, values), encapsulated(codestream)))
    for codec, (program, *options) in DCMTK.items():
        found = shutil.which(program)
        if found is None:
            continue
        written[codec] = folder / f"ct-{codec}"
        written[codec].mkdir(parents=True)
        for path in sorted(ct.iterdir()):
            subprocess.run(
                [found, *options, str(path), str(written[codec] / path.name)], check=True, capture_output=True
            )
    return written


def with_values(file: bytes, values: Values) -> bytes:
    """Return a file in Explicit VR Little Endian with these top-level elements replaced or inserted."""
    pieces, last, missing = [file[:132]], 0, dict(values)
    for e in elements_of(file):
        if e.depth or e.tag == META_LENGTH:
            continue
        for tag in sorted(tag for tag in missing if last < tag < e.tag):
            pieces.append(PLAIN.element(tag, *missing.pop(tag)))
        last = e.tag
        pieces.append(PLAIN.element(e.tag, *missing.pop(e.tag)) if e.tag in missing else file[e.start : e.end])
    meta = b"".join(piece for piece in pieces[1:] if piece[:2] == b"\x02\x00")
    group_length = PLAIN.element(META_LENGTH, "UL", struct.pack("<I", len(meta)))
    return pieces[0] + group_length + b"".join(pieces[1:])


def with_pixels(file: bytes, element: bytes) -> bytes:
    """Return a file with its pixel data element and everything after it replaced by `element`."""
    pixels = next(e for e in elements_of(file) if e.tag == PIXEL_DATA)
    return file[: pixels.start] + element


def encapsulated(*fragments: bytes, offsets: bytes = b"") -> bytes:
    """Return an encapsulated pixel data element: a basic offset table and fragments."""
    items = (offsets, *(fragment + b"\0" * (len(fragment) % 2) for fragment in fragments))
    body = b"".join(struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, len(item)) + item for item in items)
    end = struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
    return PLAIN.head(PIXEL_DATA, "OB", UNDEFINED) + body + end


def codestream_of(file: bytes) -> bytes:
    """Return the first fragment of an intact compressed file."""
    pixels = next(e for e in elements_of(file) if e.tag == PIXEL_DATA)
    at = pixels.value_start
    at += 8 + struct.unpack_from("<I", file, at + 4)[0]  # the basic offset table
    return file[at + 8 : at + 8 + struct.unpack_from("<I", file, at + 4)[0]]


def segments_of(codestream: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Return marker, start and end of each header segment of a JPEG, JPEG-LS or JPEG 2000 codestream."""
    found, at = [], 2
    while at + 4 <= len(codestream) and codestream[at] == 0xFF:
        marker, length = codestream[at + 1], struct.unpack_from(">H", codestream, at + 2)[0]
        found.append((marker, at, at + 2 + length))
        at += 2 + length
        if marker in (0xDA, 0x90):  # SOS of JPEG; SOT of JPEG 2000
            break
    return found


def rle(planes: NDArray[np.uint8]) -> bytes:
    """Return the RLE encoding (PS3.5 annex G) of byte planes, shape (planes, bytes), one segment per plane."""
    segments = []
    for plane in planes:
        packed = bytearray()
        changes = np.flatnonzero(np.diff(plane)) + 1
        for run in np.split(plane, changes):
            for start in range(0, len(run), 128):
                piece = run[start : start + 128]
                packed += bytes([257 - len(piece), piece[0]]) if len(piece) > 1 else bytes([0, piece[0]])
        segments.append(bytes(packed) + b"\0" * (len(packed) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[: len(segments)]
    head = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments)))
    return head + b"".join(segments)


def _rle_16(pixels: Pixels) -> tuple[bytes, Values]:
    values = pixels.astype("<i2").reshape(-1).view(np.uint8).reshape(-1, 2)
    hu = {SIGN: ("US", b"\1\0"), SLOPE: ("DS", b"1"), INTERCEPT: ("DS", b"0"), TRANSFER_SYNTAX: ("UI", RLE.encode())}
    return rle(np.stack([values[:, 1], values[:, 0]])), hu


def _jpeg_2000(pixels: Pixels) -> tuple[bytes, Values]:
    file = io.BytesIO()
    Image.fromarray((pixels.astype(np.int32) + 1024).clip(0, 4095).astype(np.uint16)).save(
        file, "JPEG2000", irreversible=False, no_jp2=True
    )
    values = _unsigned(bits=16, slope=b"1", intercept=b"-1024") | {TRANSFER_SYNTAX: ("UI", JPEG_2000.encode())}
    return file.getvalue(), values


def _jpeg_8(pixels: Pixels) -> tuple[bytes, Values]:
    """Return a baseline JPEG of 8 bits with a slope of 8 HU."""
    file = io.BytesIO()
    Image.fromarray(((pixels.astype(np.int32) + 1024) // 8).clip(0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=95
    )
    values = _unsigned(bits=8, slope=b"8", intercept=b"-1024") | {TRANSFER_SYNTAX: ("UI", BASELINE.encode())}
    return file.getvalue(), values


def _unsigned(*, bits: int, slope: bytes, intercept: bytes) -> dict[int, tuple[str, bytes]]:
    numbers = {BITS_ALLOCATED: bits, BITS_STORED: bits, HIGH_BIT: bits - 1, SIGN: 0}
    texts = {SLOPE: ("DS", slope), INTERCEPT: ("DS", intercept)}
    return {**{tag: ("US", struct.pack("<H", number)) for tag, number in numbers.items()}, **texts}


def _pixels(file: bytes) -> Pixels:
    by_tag = {e.tag: file[e.value_start : e.end] for e in elements_of(file) if not e.depth}
    (rows,), (columns,) = (struct.unpack("<H", by_tag[tag]) for tag in (ROWS, COLUMNS))
    slope, intercept = float(by_tag[SLOPE]), float(by_tag[INTERCEPT])
    kind = "<i2" if by_tag[SIGN] == b"\1\0" else "<u2"
    stored = np.frombuffer(by_tag[PIXEL_DATA], kind, rows * columns).reshape(rows, columns)
    return np.rint(stored * slope + intercept).astype(np.int16)
