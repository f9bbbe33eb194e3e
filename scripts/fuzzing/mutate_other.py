"""Mutations of header fields of volume files (NIfTI, NRRD, MHA), and of DICOM JSON."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
import struct
from collections.abc import Mapping
from typing import Any

from scripts.fuzzing.mutant import Mutant

NIFTI_SHORTS = (
    40,
    42,
    44,
    46,
    48,
    68,
    70,
    72,
    74,
    252,
    254,
)  # dim[0..4], intent, datatype, bitpix, slice, qform, sform
NIFTI_FLOATS = (76, 80, 84, 88, 108, 112, 116, 256, 260, 264, 268, 272, 276, *range(280, 328, 4))
NIFTI_REDUNDANT = {
    **dict.fromkeys((80, 84, 88, 256, 260, 264, 268, 272, 276, *range(280, 328, 4)), "the other of sform and qform"),
    **dict.fromkeys((40, 42, 44, 46, 70, 72, 108), "the file's length"),
}  # by offset in the header
FLOATS = (0.0, -1.0, 1e30, float("nan"), float("inf"), 2.0, 1e-30, 0.5)
NUMBERS = ("0", "-1", "1e30", "nan", "abc", "", "3.5", "99999999999999999999", "0x10", "1,5", "1 2")


def break_volume_file(rng: random.Random, name: str, file: bytes) -> Mutant:
    """Return a mutant of a volume file: a changed header field, a truncated file, or a flipped bit."""
    packed = name.endswith(".gz")
    content = gzip.decompress(file) if packed else file
    choice = rng.random()
    if choice < 0.15:
        cut = rng.randrange(len(file))
        return Mutant("volume file", f"{name} after {cut} bytes", {name: file[:cut]}, "its header")
    if choice < 0.25:
        flipped = bytearray(file)
        at = rng.randrange(min(len(file), 600))
        flipped[at] ^= 1 << rng.randrange(8)
        return Mutant("volume file", f"{name}: a bit of byte {at}", {name: bytes(flipped)}, "")
    if name.endswith((".nii", ".nii.gz")):
        changed, what, contradiction = _nifti(rng, content)
    else:
        contradiction = ""
        changed, what = _text_header(rng, content, b"\n\n" if name.endswith(".nrrd") else b"LOCAL\n")
    return Mutant(
        "volume file",
        f"{name}: {what}",
        {name: gzip.compress(changed, 1, mtime=0) if packed else changed},
        contradiction,
    )


def _nifti(rng: random.Random, file: bytes) -> tuple[bytes, str, str]:
    changed = bytearray(file)
    if rng.random() < 0.5:
        at = rng.choice(NIFTI_SHORTS)
        value = rng.choice([0, -1, 1, 2, 4, 8, 16, 64, 512, 32767, -32768])
        struct.pack_into("<h", changed, at, value)
        return bytes(changed), f"short at {at} is {value}", NIFTI_REDUNDANT.get(at, "")
    at, number = rng.choice(NIFTI_FLOATS), rng.choice(FLOATS)
    struct.pack_into("<f", changed, at, number)
    invalid = "the value is invalid: any other value is a guess"
    contradiction = NIFTI_REDUNDANT.get(at, "") if math.isfinite(number) else invalid
    return bytes(changed), f"float at {at} is {number}", contradiction


def _text_header(rng: random.Random, file: bytes, end: bytes) -> tuple[bytes, str]:
    head, ending, numbers = file.partition(end)
    lines = head.split(b"\n")
    at = rng.randrange(len(lines))
    line = lines[at].decode("latin-1")
    kind = rng.randrange(5)
    if kind == 0:
        lines[at : at + 1] = []
    elif kind == 1:
        lines[at : at + 1] = [lines[at]] * 2
    elif kind == 2:
        lines.insert(
            at, rng.choice([b"nonsense", b"data file: /etc/passwd", b"ElementDataFile = /etc/passwd", b"\xff"])
        )
    else:
        found = list(re.finditer(r"[-+]?\d[\d.eE+-]*", line)) or list(re.finditer(r"\w+", line))
        if found:
            word = rng.choice(found)
            lines[at] = (line[: word.start()] + rng.choice(NUMBERS) + line[word.end() :]).encode("latin-1")
    what = f"header line {at} {line[:40]!r} to {[one[:60] for one in lines[at : at + 2]]}"
    return b"\n".join(lines) + ending + numbers, what


def break_json(rng: random.Random, instances: Mapping[str, Any], tags: tuple[str, ...]) -> Mutant:
    """Return a mutant of WADO-RS metadata, in one instance or equally in all."""
    names = sorted(instances)
    one = rng.random() < 0.5
    how, broken, what = rng.getrandbits(32), {}, ""
    for name in [rng.choice(names)] if one else names:
        own = random.Random(how)
        copy = json.loads(json.dumps(instances[name]))
        what = _break_instance(own, copy, tags)
        broken[name] = json.dumps(copy).encode()
    return Mutant("DICOM JSON", f"{what} in {'one' if one else 'all'}", broken, "")


def _break_instance(rng: random.Random, instance: dict[str, Any], tags: tuple[str, ...]) -> str:
    present = [tag for tag in tags if tag in instance] or sorted(instance)
    tag = rng.choice(present if rng.random() < 0.85 else sorted(instance))
    element = instance[tag]
    kind = rng.randrange(7)
    if kind == 0:
        del instance[tag]
        return f"{tag} deleted"
    if kind == 1:
        element["vr"] = rng.choice(["SQ", "US", "DS", "XX", "", "PN", None, 7])
        return f"{tag} vr {element['vr']!r}"
    if kind == 2:
        element.pop("Value", None)
        element["BulkDataURI"] = "https://pacs.example/bulk/1"
        return f"{tag} by bulk data"
    if kind == 3:
        element.pop("Value", None)
        element["InlineBinary"] = rng.choice(["AAAA", "%%%", "", "QUJD"])
        return f"{tag} inline"
    value: object = rng.choice(
        [[], [None], [""], ["abc"], [-1], [1e300], ["NaN"], [{}], [[1]], "text", 7, None, [True], ["1,5"], ["1", "2"],
         [{"Alphabetic": "A^B"}], [{"00181074": {"vr": "DS", "Value": [1]}}], [2**70], ["20200101"]]
    )  # fmt: skip
    element["Value"] = value
    return f"{tag} is {value!r}"
