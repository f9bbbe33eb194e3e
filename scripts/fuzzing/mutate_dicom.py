"""Mutations of DICOM files, in one slice of a series or equally in all slices."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scripts.fuzzing.elements import ITEM, PIXEL_DATA, TRANSFER_SYNTAX, UNDEFINED, Element, Encoding, elements_of
from scripts.fuzzing.facts import POSITION, contradiction
from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.values import invalid_value, is_binary, other_value

POSITION_TOLERANCE_MM = 0.6  # tolerance of `lib.dicom.read.slice_order` for slice positions
HEADER_SEQUENCES = (0x00081140, 0x00540016, 0x00189346)  # ReferencedImage, RadiopharmaceuticalInformation, CTDI
VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "OB", "PN", "SH", "SL", "SQ", "SS", "ST", "TM", "UI",
       "UL", "UN", "US", "UT", "XX", "\0\0")  # fmt: skip
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Edit:
    """A replacement of a range of bytes."""

    start: int
    end: int
    content: bytes
    is_value: bool
    what: str


def _apply(file: bytes, edit: Edit) -> bytes:
    return file[: edit.start] + edit.content + file[edit.end :]


def _value(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Replace the value by another valid value."""
    old = file[element.value_start : element.end]
    new = other_value(rng, element.tag, element.vr or _guess(element), old, element.encoding.order)
    return _replaced(element, new, is_value=True)


def _invalid_value(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Replace the value by an invalid one."""
    new = invalid_value(rng, element.vr or _guess(element), file[element.value_start : element.end])
    return _replaced(element, new, is_value=False)


def _replaced(element: Element, value: bytes, *, is_value: bool) -> Edit:
    content = element.encoding.element(element.tag, element.vr, value)
    return Edit(element.start, element.end, content, is_value, f"value {value[:40]!r}")


def _guess(element: Element) -> str:
    """Return a plausible VR for an element with implicit VR: a number, or text that contains a number."""
    is_short = element.tag >> 16 == 0x0028 and element.end - element.value_start == 2
    return "US" if is_short else "DS"


def _delete(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Delete the element."""
    return Edit(element.start, element.end, b"", False, "deleted")


def _vr(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Change the VR, with or without the matching length field."""
    vr, value = rng.choice(VRS), file[element.value_start : element.end]
    if element.vr and rng.random() < 0.5:
        content = file[element.start : element.start + 4] + vr.encode("latin-1") + file[element.start + 6 : element.end]
    else:
        content = Encoding(True, element.encoding.order).element(element.tag, vr, value)
    return Edit(element.start, element.end, content, False, f"representation {element.vr or '-'} to {vr!r}")


def _duplicate(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Duplicate the element with another value."""
    again = _value(rng, file, element)
    content = file[element.start : element.end] + again.content
    first, second = (
        (content, "after") if rng.random() < 0.5 else (again.content + file[element.start : element.end], "before")
    )
    return Edit(element.start, element.end, first, False, f"repeated {second} with {again.what}")


def _length(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Change the length field."""
    length = element.end - element.value_start
    wrong = rng.choice([0, 1, length + 1, length + 2, max(0, length - 2), length * 2, 0x7FFF, 0xFFFE, 0x7FFFFFFE])
    head = element.encoding.head(element.tag, element.vr, wrong)
    return Edit(element.start, element.value_start, head, False, f"length {length} to {wrong}")


def _undefined(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Set an undefined length without adding a delimiter."""
    vr = rng.choice([element.vr, "UN", "SQ", "OB"]) if element.encoding.explicit else element.vr
    head = Encoding(element.encoding.explicit, element.encoding.order).head(element.tag, vr, UNDEFINED)
    return Edit(element.start, element.value_start, head, False, f"undefined length as {vr}")


def _deep(rng: random.Random, file: bytes, element: Element) -> Edit:
    """Insert deeply nested sequences before the element."""
    depth, tag = rng.choice([3, 100, 900, 3000, 20_000]), rng.choice((*HEADER_SEQUENCES, 0x00091001))
    encoding = element.encoding
    opening = encoding.head(tag, "SQ", UNDEFINED) + struct.pack(f"{encoding.order}HHI", 0xFFFE, 0xE000, UNDEFINED)
    closing = struct.pack(f"{encoding.order}HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    content = opening * depth + (closing * depth if rng.random() < 0.7 else b"")
    return Edit(element.start, element.start, content, False, f"{depth} sequences deep in front, {tag:08x}")


EDITS: dict[str, Callable[[random.Random, bytes, Element], Edit]] = {
    "other value": _value,
    "no value": _invalid_value,
    "deleted": _delete,
    "other VR": _vr,
    "repeated": _duplicate,
    "wrong length": _length,
    "undefined length": _undefined,
    "nested": _deep,
}


def edit_elements(rng: random.Random, kind: str, files: Files, modality: str, tags: tuple[int, ...]) -> Mutant:
    """Return a mutant with an edited element, mostly one of `tags`, in one file or equally in all files."""
    names = sorted(files)
    one_slice = len(names) == 1 or rng.random() < 0.5
    parsed = {name: elements_of(files[name]) for name in names}
    candidates = [e for e in parsed[names[0]] if e.tag != ITEM and e.tag != PIXEL_DATA]
    known = [e for e in candidates if e.tag in tags]
    chosen = rng.choice(known if known and rng.random() < 0.85 else candidates)
    broken, edit = {}, None
    how = rng.getrandbits(32)  # the same choice in every file
    for name in [rng.choice(names)] if one_slice else names:
        element = next((e for e in parsed[name] if (e.tag, e.depth) == (chosen.tag, chosen.depth)), None)
        if element is not None:
            edit = EDITS[kind](random.Random(how), files[name], element)
            broken[name] = _apply(files[name], edit)
    assert edit is not None
    reason, tolerance = contradiction(
        chosen.tag, modality=modality, one_slice=one_slice, is_value=edit.is_value,
        present=frozenset(e.tag for e in candidates) | {PIXEL_DATA},
    )  # fmt: skip
    where = f"{next(iter(broken))}" if one_slice else "all files"
    place_mm = POSITION_TOLERANCE_MM if chosen.tag == POSITION else 0.01
    return Mutant(kind, f"{chosen.tag:08x} in {where}: {edit.what}", broken, reason, tolerance, place_mm)


def flip_bits(rng: random.Random, files: Files, modality: str) -> Mutant:
    """Return a mutant with one to four flipped bits in one file, before its pixel data."""
    name = rng.choice(sorted(files))
    file, elements = bytearray(files[name]), elements_of(files[name])
    pixels = next((e for e in elements if e.tag == PIXEL_DATA), None)
    bits = [rng.randrange(8 * (len(file) if pixels is None else pixels.value_start)) for _ in range(rng.randint(1, 4))]
    found: list[tuple[str, float]] = []
    place_mm = 0.01
    for bit in bits:
        file[bit // 8] ^= 1 << bit % 8
        hit = next((e for e in reversed(elements) if e.start <= bit // 8 < e.end and e.tag != ITEM), None)
        if hit is None:
            continue
        found_reason = contradiction(
            hit.tag, modality=modality, one_slice=True, is_value=bit // 8 >= hit.value_start,
            present=frozenset(e.tag for e in elements),
        )  # fmt: skip
        found.append(found_reason)
        place_mm = POSITION_TOLERANCE_MM if hit.tag == POSITION else place_mm
    least = min(found, default=("", 1e-4))  # if one bit is unconstrained, any difference may come from it
    return Mutant("bit flips", f"bits {bits} of {name}", {name: bytes(file)}, *least, place_mm)


def truncate(rng: random.Random, files: Files, modality: str) -> Mutant:
    """Return a mutant with one truncated file, at an element boundary or anywhere."""
    name = rng.choice(sorted(files))
    file = files[name]
    ends = sorted({place for e in elements_of(file) for place in (e.start, e.value_start, e.end - 1)})
    cut = min(len(file) - 1, rng.choice([rng.choice(ends), rng.randrange(len(file)), len(file) - 2]))
    return Mutant("cut off", f"{name} after {cut} of {len(file)} bytes", {name: file[:cut]}, "the other slices")


def swap_bytes(rng: random.Random, files: Files, modality: str) -> Mutant:
    """Return a mutant with swapped byte order of numbers, or also of lengths and tags."""
    names = sorted(files) if rng.random() < 0.5 else [rng.choice(sorted(files))]
    swaps_headers, broken = rng.random() < 0.5, {}
    for name in names:
        file = bytearray(files[name])
        for e in elements_of(files[name]):
            if e.tag >> 16 == 2 or e.depth or e.tag == PIXEL_DATA:
                continue
            if swaps_headers:
                file[e.start : e.start + 4] = bytes(file[i] for i in (e.start + 1, e.start, e.start + 3, e.start + 2))
                tail = file[e.value_start - 2 : e.value_start] if e.vr else file[e.value_start - 4 : e.value_start]
                file[e.value_start - len(tail) : e.value_start] = tail[::-1]
            if is_binary(e.vr):
                file[e.value_start : e.end] = bytes(file[e.value_start : e.end])[::-1]
        broken[name] = bytes(file)
    what = "tags, lengths and numbers" if swaps_headers else "numbers"
    return Mutant("swapped bytes", f"{what} of {len(names)} files", broken, "the transfer syntax")


def other_syntax(rng: random.Random, files: Files, modality: str) -> Mutant:
    """Return a mutant that declares a wrong transfer syntax."""
    return edit_elements(rng, "other value", files, modality, (TRANSFER_SYNTAX,))
