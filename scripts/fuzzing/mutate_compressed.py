"""Mutations of compressed DICOM files: codestreams (headers, data), encapsulation, attributes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping

from scripts.fuzzing.codestreams import (
    BITS_ALLOCATED,
    BITS_STORED,
    COLUMNS,
    HIGH_BIT,
    ROWS,
    SIGN,
    codestream_of,
    encapsulated,
    segments_of,
    with_pixels,
    with_values,
)
from scripts.fuzzing.elements import ITEM, PIXEL_DATA, TRANSFER_SYNTAX, UNDEFINED, elements_of
from scripts.fuzzing.mutant import Mutant

SAMPLES, PHOTOMETRIC, PLANAR, FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
SYNTAXES = (
    "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201",
)  # fmt: skip
COLOURS = (b"YBR_FULL_422", b"YBR_FULL", b"YBR_ICT", b"YBR_RCT", b"RGB", b"PALETTE COLOR", b"MONOCHROME1", b"")
SIZES = (0, 1, 2, 7, 63, 65, 127, 255, 1024, 4095, 16000, 0x7FFF, 0x8000, 0xFFFF)
VALUES = (0, 1, 2, 15, 16, 63, 64, 65, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
Files = Mapping[str, bytes]
Broken = tuple[bytes, str]  # a mutated file and the description of the mutation


def break_compressed(rng: random.Random, files: Files) -> Mutant:
    """Return a mutant of a compressed series: one mutated file, or for header mutations possibly all files equally."""
    kind = rng.choice(list(KINDS))
    names = sorted(files)
    one = kind not in SERIES_KINDS or rng.random() < 0.5
    how, broken, what = rng.getrandbits(32), {}, ""
    for name in [rng.choice(names)] if one else names:
        broken[name], what = KINDS[kind](random.Random(how), files[name])
    where = next(iter(broken)) if one else "all files"
    return Mutant(kind, f"{what} in {where}", broken, CONTRADICTED.get(kind, ""))


def _field(rng: random.Random, file: bytes) -> Broken:
    """Change a field of a header segment: sizes, precision, components, tables, levels."""
    codestream = bytearray(codestream_of(file))
    if not codestream.startswith(b"\xff"):
        return _rle_head(rng, file)
    segments = [one for one in segments_of(codestream) if one[2] <= len(codestream)]
    marker, start, end = rng.choice(segments)
    size = rng.choice([1, 1, 2, 4])
    at = rng.randrange(start + 2, max(start + 3, min(end, start + 60)))
    value = rng.choice(VALUES) & ((1 << 8 * size) - 1)
    codestream[at : at + size] = value.to_bytes(size, "big")
    return _packed(file, bytes(codestream), f"segment FF{marker:02X}: {value} in {size} bytes at {at - start}")


def _size(rng: random.Random, file: bytes) -> Broken:
    """Change a size in the codestream: SOF of JPEG and JPEG-LS, SIZ of JPEG 2000, the segment table of RLE."""
    codestream = bytearray(codestream_of(file))
    for marker, start, _ in segments_of(codestream) if codestream.startswith(b"\xff") else []:
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            place, value = rng.choice(["rows", "columns", "precision", "components"]), rng.choice(SIZES)
            at = start + {"precision": 4, "rows": 5, "columns": 7, "components": 9}[place]
            form = ">H" if place in ("rows", "columns") else ">B"
            struct.pack_into(form, codestream, at, value & (0xFFFF if form == ">H" else 0xFF))
            return _packed(file, bytes(codestream), f"FF{marker:02X} {place} {value}")
        if marker == 0x51:
            which, value = rng.randrange(8), rng.choice([*SIZES, *VALUES])
            struct.pack_into(">I", codestream, start + 6 + 4 * which, value)  # Xsiz, Ysiz, offsets, tiles
            return _packed(file, bytes(codestream), f"SIZ number {which} is {value}")
    return _rle_head(rng, file)


def _rle_head(rng: random.Random, file: bytes) -> Broken:
    codestream = bytearray(codestream_of(file)).ljust(64, b"\0")
    if rng.random() < 0.4:
        value = rng.choice([0, 1, 3, 14, 15, 16, 17, 0x7FFFFFFF, 0xFFFFFFFF])
        struct.pack_into("<I", codestream, 0, value)
        return _packed(file, bytes(codestream), f"first number of the codestream {value}")
    at, value = rng.randrange(1, 16), rng.choice([*VALUES, len(codestream), len(codestream) - 1])
    struct.pack_into("<I", codestream, 4 * at, value)
    return _packed(file, bytes(codestream), f"number {at} of the codestream {value}")


def _numbers(rng: random.Random, file: bytes) -> Broken:
    """Change bytes anywhere in the codestream."""
    codestream = bytearray(codestream_of(file))
    count = rng.choice([1, 1, 4, 40, 400])
    for _ in range(count):
        codestream[rng.randrange(len(codestream))] = rng.choice([0, 255, rng.randrange(256)])
    return _packed(file, bytes(codestream), f"{count} bytes of the codestream")


def _cut(rng: random.Random, file: bytes) -> Broken:
    codestream = codestream_of(file)
    at = rng.choice([0, 1, 2, 4, 64, rng.randrange(len(codestream)), rng.randrange(min(200, len(codestream)))])
    return _packed(file, codestream[:at], f"codestream of {at} bytes")


def _segments(rng: random.Random, file: bytes) -> Broken:
    """Duplicate, remove or move a segment, or change its marker."""
    codestream = codestream_of(file)
    segments = [one for one in segments_of(codestream) if one[2] <= len(codestream)]
    if not codestream.startswith(b"\xff") or not segments:
        return _rle_head(rng, file)
    marker, start, end = rng.choice(segments)
    piece, rest = codestream[start:end], codestream[:start] + codestream[end:]
    kind, place = rng.randrange(4), rng.choice(segments)[1]
    if kind == 0:
        return _packed(
            file, codestream[:end] + piece * rng.choice([1, 3, 500]) + codestream[end:], f"{marker:02X} twice"
        )
    if kind == 1:
        return _packed(file, rest, f"no {marker:02X}")
    if kind == 2:
        return _packed(file, rest[:place] + piece + rest[place:], f"{marker:02X} at {place}")
    other = rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC9, 0xDB, 0xDD, 0xDA, 0xE0, 0xF7, 0xF8, 0x51, 0x52, 0x5C, 0x90])
    return _packed(
        file, codestream[: start + 1] + bytes([other]) + codestream[start + 2 :], f"{marker:02X} is {other:02X}"
    )


def _encapsulation(rng: random.Random, file: bytes) -> Broken:
    """Change the number or lengths of fragments and offsets."""
    codestream, kind = codestream_of(file), rng.randrange(8)
    half = len(codestream) // 4 * 2
    if kind == 0:
        return with_pixels(file, encapsulated()), "no fragment"
    if kind == 1:
        return with_pixels(file, encapsulated(codestream[:half], codestream[half:])), "two fragments"
    if kind == 2:
        return with_pixels(file, encapsulated(codestream, codestream)), "the fragment twice"
    if kind == 3:
        offsets = struct.pack("<4I", 0, *(rng.choice(VALUES) for _ in range(3)))
        return with_pixels(file, encapsulated(codestream, offsets=offsets)), "offsets"
    if kind == 4:
        return with_pixels(file, encapsulated(codestream)[:-8]), "no delimiter"
    if kind == 5:
        return with_pixels(file, encapsulated(*[b""] * rng.choice([1, 100, 20_000]), codestream)), "empty fragments"
    element = bytearray(encapsulated(codestream))
    if kind == 6:
        struct.pack_into("<I", element, 8, rng.choice([0, len(codestream), 0xFFFFFFFE]))
        return with_pixels(file, bytes(element)), "a defined length"
    struct.pack_into("<HHI", element, 20, ITEM >> 16, ITEM & 0xFFFF, rng.choice([*VALUES, UNDEFINED]))
    return with_pixels(file, bytes(element)), "the length of the fragment"


def _header(rng: random.Random, file: bytes) -> Broken:
    """Change attributes of the file so that the codestream contradicts them."""
    tag = rng.choice([ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED, HIGH_BIT, SIGN, SAMPLES, PLANAR])
    value = rng.choice([0, 1, 2, 3, 8, 12, 15, 16, 17, 32, 64, *SIZES])
    more = {tag: ("US", struct.pack("<H", value & 0xFFFF))}
    if rng.random() < 0.3:  # large equal rows and columns
        value = rng.choice([4096, 16_000, 0xFFFF])
        more |= {one: ("US", struct.pack("<H", value)) for one in (ROWS, COLUMNS)}
    return with_values(file, more), f"{', '.join(f'{one:08x}' for one in more)} is {value}"


def _colour(rng: random.Random, file: bytes) -> Broken:
    """Change the photometric interpretation and the number of samples."""
    colour, samples = rng.choice(COLOURS), rng.choice([1, 2, 3, 3, 4])
    values = {PHOTOMETRIC: ("CS", colour), SAMPLES: ("US", struct.pack("<H", samples))}
    if rng.random() < 0.5:
        values[PLANAR] = ("US", struct.pack("<H", rng.choice([0, 1])))
    if rng.random() < 0.3:
        values[FRAMES] = ("IS", rng.choice([b"0", b"2", b"1000000", b"-1"]))
    return with_values(file, values), f"{colour.decode()} of {samples} samples"


def _syntax(rng: random.Random, file: bytes) -> Broken:
    syntax = rng.choice(SYNTAXES)
    return with_values(file, {TRANSFER_SYNTAX: ("UI", syntax.encode())}), f"transfer syntax {syntax}"


def _repeated(rng: random.Random, file: bytes) -> Broken:
    """Duplicate an element or the pixel data, which parsers may resolve differently."""
    elements = [e for e in elements_of(file) if not e.depth and e.tag >> 16 == 0x28]
    if rng.random() < 0.4:
        pixels = next(e for e in elements_of(file) if e.tag == PIXEL_DATA)
        other = encapsulated(codestream_of(file)[: rng.choice([8, 100, None]) or None])
        return file[: pixels.start] + other + file[pixels.start :], "pixel data twice"
    e = rng.choice(elements)
    again = e.encoding.head(e.tag, e.vr, e.end - e.value_start) + bytes(e.end - e.value_start)
    return file[: e.start] + again + file[e.start :], f"{e.tag:08x} twice"


def _packed(file: bytes, codestream: bytes, what: str) -> Broken:
    return with_pixels(file, encapsulated(codestream)), what


KINDS: dict[str, Callable[[random.Random, bytes], Broken]] = {
    "codestream field": _field,
    "codestream size": _size,
    "codestream numbers": _numbers,
    "codestream cut": _cut,
    "codestream segments": _segments,
    "encapsulation": _encapsulation,
    "pixel attributes": _header,
    "colour": _colour,
    "other syntax": _syntax,
    "repeated": _repeated,
}
CONTRADICTED = {"repeated": "the other of the two elements", "codestream size": "Rows, Columns and BitsStored"}
SERIES_KINDS = ("pixel attributes", "colour", "other syntax", "codestream size")
