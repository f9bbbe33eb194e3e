"""Mutations of volume files: size, geometry, data type and compression.

`mutate_other.py` changes single fields of their headers.
"""

from __future__ import annotations

import gzip
import random
import re
import struct
import zlib
from collections.abc import Callable

from scripts.fuzzing.mutant import Mutant
from scripts.fuzzing.mutate_other import break_volume_file

SPACINGS = (0.0, 1e-6, 1e-3, 0.04, 12.0, 60.0, 160.0, 5000.0, 1e12, -2.0)  # mm
EDGES = (1, 2, 3, 7, 512, 1000, 4096, 20_000, 32767)
MAX_VOXELS = 24 * 10**6  # maximum number of zero voxels written to a mutant
NRRD_TYPES = ("uchar", "short", "ushort", "int", "float", "double", "longlong", "block", "int8", "unsigned long")
NRRD_LINES = (
    "encoding: ascii", "encoding: hex", "encoding: bzip2", "line skip: 5", "byte skip: -1", "byte skip: 99999999",
    "endian: big", "block size: 8", "space: right-anterior-superior-time", "space: 3D-right-handed",
    "kinds: list domain", "measurement frame: (1,0,0) (0,1,0) (0,0,1)", "space dimension: 17", "spacings: nan nan nan",
    "content: " + "x" * 5000, "axis mins: 0 0 0", "thicknesses: 1 1 1", 'labels: "a', "sample units: HU",
    "key:=value" * 400,
)  # fmt: skip
META_LINES = (
    "BinaryDataByteOrderMSB = True", "ElementByteOrderMSB = True", "BinaryData = False", "CompressedData = True",
    "CompressedDataSize = 10", "HeaderSize = -1", "ElementNumberOfChannels = 3", "Rotation = 1 0 0 0 1 0 0 0 nan",
    "ObjectSubType = Scene", "NObjects = 5", "AnatomicalOrientation = RAI", "ElementSize = 9 9 9", "Offset = nan 0 0",
    "TransformMatrix = 0 0 0 0 0 0 0 0 0", "Comment = " + "x" * 5000, "ElementMin = 5", "Modality = MET_MOD_CT",
)  # fmt: skip
NIFTI_TYPES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 2048, 2304)


def break_volume(rng: random.Random, name: str, file: bytes) -> Mutant:
    """Return a mutant of a volume file."""
    if rng.random() < 0.5:
        return break_volume_file(rng, name, file)
    kind = rng.choice(list(KINDS))
    packed = name.endswith(".gz")
    content = gzip.decompress(file) if packed else file
    broken, what = KINDS[kind](rng, name, content)
    if packed and kind != "volume packing":
        broken = _gzip(broken)
    return Mutant(kind, f"{name}: {what}", {name: broken}, "")


def _place(rng: random.Random, name: str, content: bytes) -> tuple[bytes, str]:
    """Change the voxel size consistently in all fields."""
    spacing = [rng.choice(SPACINGS)] * 3 if rng.random() < 0.5 else [rng.choice(SPACINGS) for _ in range(3)]
    if ".nii" in name:
        changed = bytearray(content)
        struct.pack_into("<3f", changed, 80, *spacing)
        struct.pack_into("<2h", changed, 252, 0, 1)  # sform only
        rows = [[-spacing[0], 0, 0, 0], [0, -spacing[1], 0, 0], [0, 0, spacing[2], 0]]
        struct.pack_into("<12f", changed, 280, *(number for row in rows for number in row))
        return bytes(changed), f"voxels of {spacing} mm"
    x, y, z = spacing
    if name.endswith(".nrrd"):
        line = f"space directions: ({x},0,0) (0,{y},0) (0,0,{z})"
        return _line(content, b"space directions", line.encode()), line
    line = f"ElementSpacing = {x} {y} {z}"
    return _line(content, b"ElementSpacing", line.encode()), line


def _shape(rng: random.Random, name: str, content: bytes) -> tuple[bytes, str]:
    """Change the shape, with matching zero voxels or with the old voxels."""
    sizes = [rng.choice(EDGES) for _ in range(rng.choice([3, 3, 3, 3, 2, 4, 7]))]
    head, numbers = _parts(name, content)
    voxels = 1
    for size in sizes:
        voxels *= size
    filled = voxels <= MAX_VOXELS and rng.random() < 0.7
    numbers = bytes(4 * voxels) if filled else numbers
    text = " ".join(map(str, sizes))
    what = f"sizes {text}{', zeros' if filled else ''}"
    if ".nii" in name:
        changed = bytearray(head)
        struct.pack_into("<8h", changed, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
        return bytes(changed) + numbers, what
    if name.endswith(".nrrd"):
        head = _line(head, b"dimension", f"dimension: {len(sizes)}".encode())
        packed = _gzip(numbers) if filled else numbers
        return _line(head, b"sizes", f"sizes: {text}".encode()) + packed, what
    packed = _zlib(numbers) if filled else numbers
    head = _line(head, b"CompressedDataSize", f"CompressedDataSize = {len(packed)}".encode())
    head = _line(head, b"NDims", f"NDims = {len(sizes)}".encode())
    return _line(head, b"DimSize", f"DimSize = {text}".encode()) + packed, what


def _type(rng: random.Random, name: str, content: bytes) -> tuple[bytes, str]:
    """Change the data type, or a header line that describes the data."""
    if ".nii" in name:
        changed, datatype = bytearray(content), rng.choice(NIFTI_TYPES)
        struct.pack_into("<2h", changed, 70, datatype, rng.choice([8, 16, 32, 64, 128]))
        return bytes(changed), f"datatype {datatype}"
    if name.endswith(".nrrd"):
        line = rng.choice([f"type: {rng.choice(NRRD_TYPES)}", *NRRD_LINES])
        return _line(content, line.partition(":")[0].encode(), line.encode()), line[:60]
    line = rng.choice([f"ElementType = MET_{rng.choice(['DOUBLE', 'CHAR', 'LONG_LONG', 'NONE'])}", *META_LINES])
    return _line(content, line.partition(" =")[0].encode(), line.encode()), line[:60]


def _packing(rng: random.Random, name: str, content: bytes) -> tuple[bytes, str]:
    """Truncate, extend or damage the compressed data, or split them into several members."""
    head, numbers = _parts(name, content)
    if name.endswith(".nii"):
        return head + numbers[: rng.randrange(len(numbers))], "fewer numbers"
    if name.endswith(".gz"):
        content = head + numbers
    else:
        content = gzip.decompress(numbers) if name.endswith(".nrrd") else zlib.decompress(numbers)
    pack = _zlib if name.endswith(".mha") else _gzip
    kind = rng.randrange(6)
    half = rng.randrange(len(content))
    packed = {
        0: lambda: pack(content[:half]),
        1: lambda: pack(content + bytes(rng.choice([1, 511, 10**6, 3 * 10**7]))),
        2: lambda: pack(content[:half]) + pack(content[half:]),
        3: lambda: pack(content)[: -rng.randrange(1, 40)],
        4: lambda: pack(content) + rng.randbytes(40),
        5: lambda: bytes(a ^ (rng.random() < 0.001) for a in pack(content)),
    }[kind]()
    what = ("half packed", "more packed", "two members", "torn", "rubbish behind", "bits flipped")[kind]
    if name.endswith(".gz"):
        return packed, what
    return _line(head, b"CompressedDataSize", f"CompressedDataSize = {len(packed)}".encode()) + packed, what


def _parts(name: str, content: bytes) -> tuple[bytes, bytes]:
    """Return the header including its end marker, and the compressed data."""
    if ".nii" in name:
        return content[:352], content[352:]
    end = b"\n\n" if name.endswith(".nrrd") else b"LOCAL\n"
    head, ending, numbers = content.partition(end)
    return head + ending, numbers


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)  # reproducible


def _zlib(content: bytes) -> bytes:
    return zlib.compress(content, 1)


def _line(content: bytes, key: bytes, line: bytes) -> bytes:
    """Return the content with a header line replaced, or inserted after the first line if the key is missing."""
    changed, count = re.subn(rb"(?m)^" + re.escape(key) + rb" ?[:=].*$", lambda _: line, content, count=1)
    if count or line.startswith(b"CompressedDataSize"):
        return changed
    first, _, rest = content.partition(b"\n")
    return first + b"\n" + line + b"\n" + rest


KINDS: dict[str, Callable[[random.Random, str, bytes], tuple[bytes, str]]] = {
    "volume place": _place,
    "volume shape": _shape,
    "volume type": _type,
    "volume packing": _packing,
}
