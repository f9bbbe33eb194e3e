"""Check the header of a volume file before a library reads it: a single file of a plausible size.

A NRRD or MetaImage header may name another file with the voxels, and a NIfTI header may be one of a pair of files; the
libraries would open any file. Any header may announce more voxels than fit into memory.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ImageFileError

MAX_VOLUME_BYTES = (
    10 * 10**9
)  # stored and read: 2,000 x 512 x 512 float64 take 6.3 GB, 1,000 x 1,024 x 1,024 float32 8.4
MAX_TIMES_PACKED = 100  # uncompressed by compressed bytes; CTs have 4 to 40, a decompression bomb 1,000 and more
ALWAYS_TAKEN_BYTES = 2**28  # stored and read; smaller volumes may be compressed by any factor
FLOAT_BYTES = 4  # per voxel in memory
MAX_HEADER_BYTES = 2**20
GZIP = b"\x1f\x8b"
NIFTI_MAGIC = (b"n+1\0", b"n+2\0\r\n\x1a\n")  # one file; ni1 and ni2 are pairs
NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1536: 16,
               1792: 16, 2048: 32, 2304: 4}  # fmt: skip
NIFTI_FLOATS = (16, 64, 1536)
NRRD_FIELD = re.compile(r"(\w[^:]*):(=| ).*")  # field, or key and value
NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    "float": 4,
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "uint64", "uint64_t", "double"), 8),
}  # fmt: skip
META_FIELD = re.compile(r"([\w|][^=:]*?) *= ?(.*)")
META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 8, "ULONG": 8,
              "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
META_DATA = b"ElementDataFile"
# Fields that change values or lengths and that ITK ignores silently, and the values that change nothing:
NRRD_IGNORED = {"oldmin": (), "oldmax": (), "spaceunits": ("mm", "???", "")}
META_IGNORED = {
    "ElementToIntensityFunctionSlope": ("1", "1.0"),
    "ElementToIntensityFunctionOffset": ("0", "0.0"),
    "DistanceUnits": ("mm", "?"),
}


@dataclass(frozen=True)
class Announced:
    """Size and type of the voxels according to the header.

    Attributes:
        sizes: Sizes of the axes in file order, the fastest first.
        voxel_bytes: Bytes of a stored voxel, uncompressed.
        is_packed: Whether the voxels are compressed.
        is_float: Whether they are floating-point numbers, or integers that the header scales to such.
    """

    sizes: tuple[int, ...]
    voxel_bytes: int
    is_packed: bool
    is_float: bool

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.sizes)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all voxels, uncompressed."""
        return self.voxels * self.voxel_bytes

    @property
    def needed_bytes(self) -> int:
        """Bytes of all voxels as stored and as float32, which is the memory needed for reading."""
        return self.stored_bytes + self.voxels * FLOAT_BYTES

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, slices first, without trailing axes of size 1."""
        sizes = list(self.sizes)
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        return tuple(reversed(sizes))


def refuse_unless_alone(path: Path) -> Announced:
    """Return size and type of the voxels, after checking that the file is self-contained and not too large.

    Raises:
        ImageFileError: The suffix is wrong, or the file is damaged, refers to another file, or is too large.
    """
    name, announced = path.name, announced_by(path)
    found, needed = path.stat().st_size, announced.needed_bytes
    if needed > MAX_VOLUME_BYTES:
        raise ImageFileError(
            f"{name}: its header announces {announced.voxels:.2g} voxels of {announced.voxel_bytes} bytes, which need "
            f"{needed / 1e9:.3g} GB to read, expected at most {MAX_VOLUME_BYTES / 1e9:.0f} GB; crop or resample it, or "
            "export it again if it is damaged"
        )
    if announced.is_packed and needed > max(ALWAYS_TAKEN_BYTES, MAX_TIMES_PACKED * found):
        raise ImageFileError(
            f"{name}: {found} bytes that need {needed} to read, over {MAX_TIMES_PACKED} times as many, unlike any "
            "CT; export it uncompressed"
        )
    return announced


def announced_by(path: Path) -> Announced:
    """Return the size and type of the voxels according to the header.

    Raises:
        ImageFileError: The suffix is wrong, or the file is damaged, refers to another file, or is too short.
    """
    if path.name.lower().endswith(".nrrd"):
        announced = _nrrd(path)
    elif path.name.lower().endswith(".mha"):
        announced = _meta(path)
    else:
        announced = _nifti(path)
    unpacked, found = announced.stored_bytes, path.stat().st_size
    if not announced.is_packed and found < unpacked:
        raise ImageFileError(
            f"{path.name}: cannot be read as a volume; is the file complete? Its header announces {unpacked} bytes, "
            f"found {found}"
        )
    return announced


def _nifti(path: Path) -> Announced:
    start, is_packed = _start(path, 544)
    for order in "<>":
        size = struct.unpack(f"{order}i", start[:4].ljust(4, b"\0"))[0]
        if size == 348 and len(start) >= 348 and start[344:348] == NIFTI_MAGIC[0]:
            scale = struct.unpack(f"{order}2f", start[112:120])
            return _of(path, struct.unpack(f"{order}8h", start[40:56]), _int16(order, start[70:72]), is_packed, scale)
        if size == 540 and len(start) >= 540 and start[4:12] == NIFTI_MAGIC[1]:
            scale = struct.unpack(f"{order}2d", start[176:192])
            return _of(path, struct.unpack(f"{order}8q", start[16:80]), _int16(order, start[12:14]), is_packed, scale)
    raise _unreadable(path, "not a single-file NIfTI; pairs of .hdr and .img are not supported")


def _of(path: Path, dimensions: Sequence[int], datatype: int, is_packed: bool, scale: tuple[float, float]) -> Announced:
    sizes = dimensions[1 : 1 + dimensions[0]]
    if not 1 <= dimensions[0] <= 7 or min(sizes) < 1 or datatype not in NIFTI_BYTES:
        raise _unreadable(path, f"its header announces {dimensions[0]} dimensions {list(sizes)}, datatype {datatype}")
    is_scaled = math.isfinite(scale[0]) and scale[0] != 0 and scale != (1, 0)
    return Announced(tuple(sizes), NIFTI_BYTES[datatype], is_packed, datatype in NIFTI_FLOATS or is_scaled)


def _int16(order: str, two_bytes: bytes) -> int:
    return int(struct.unpack(f"{order}h", two_bytes)[0])


def _start(path: Path, count: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, uncompressed, and whether it is compressed."""
    with path.open("rb") as file:
        start = file.read(64 * 1024)
    if not start.startswith(GZIP):
        return start[:count], False
    try:
        return zlib.decompressobj(wbits=31).decompress(start, count), True
    except zlib.error as error:
        raise _unreadable(path, str(error)) from error


def _nrrd(path: Path) -> Announced:
    with path.open("rb") as file:
        start = file.read(MAX_HEADER_BYTES)
    header, blank, _ = start.partition(b"\n\n")
    lines = header.decode("latin-1").split("\n")
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]) or not blank or "\r" in header.decode("latin-1"):
        raise _unreadable(path, "no NRRD header with lines ending in \\n and an empty line at its end")
    fields: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        field = NRRD_FIELD.fullmatch(line)
        if field is None and not line.startswith("#"):
            raise _unreadable(path, f"line {number} of its header is invalid")
        if field is not None:
            key = re.sub(r"\s+", "", field[1]).lower()
            if key.startswith("datafile"):
                raise _refers_to_another(path)
            fields[key] = line.partition(":")[2].strip().lower()
    _refuse_ignored_fields(path, fields, NRRD_IGNORED)
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        voxel_bytes = NRRD_BYTES[fields["type"]]
        encoding = fields["encoding"]
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "its header lacks type, sizes or encoding, or has unknown values") from error
    if not sizes or min(sizes) < 1:
        raise _unreadable(path, f"its header announces sizes {sizes}")
    if encoding not in ("raw", "gzip", "gz"):
        raise _unreadable(path, f"encoding {encoding[:20]!r}, expected raw or gzip")
    return Announced(tuple(sizes), voxel_bytes, encoding != "raw", fields["type"] in ("float", "double"))


def _meta(path: Path) -> Announced:
    with path.open("rb") as file:
        if not file.read(1):
            raise _unreadable(path, "it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = content.find(META_DATA, 0, MAX_HEADER_BYTES)
            header, last = content[: max(at, 0)], content[at : at + 40].partition(b"\n")[0] if at >= 0 else b""
            is_only = at >= 0 and content.find(META_DATA, at + 1) < 0
    if at < 0:
        raise _unreadable(path, "it has no MetaImage header")
    if not is_only or not re.fullmatch(rb"ElementDataFile *= *LOCAL\r?", last):
        raise _refers_to_another(path)
    fields: dict[str, str] = {}
    for number, line in enumerate(header.decode("latin-1").splitlines(), start=1):
        field = META_FIELD.fullmatch(line)
        if field is None:
            raise _unreadable(path, f"line {number} of its header is invalid")
        fields[field[1]] = field[2].strip()
    _refuse_ignored_fields(path, fields, META_IGNORED)
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", 1))
        element = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        voxel_bytes = META_BYTES[element] * channels
        packed_size, dimensions = int(fields.get("CompressedDataSize", 0)), int(fields["NDims"])
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "its header lacks NDims, DimSize or ElementType, or has invalid values") from error
    if len(sizes) != dimensions or not sizes or min(sizes) < 1 or channels < 1 or "HeaderSize" in fields:
        raise _unreadable(path, f"its header announces {dimensions} dimensions, sizes {sizes[:8]}")
    if not 0 <= packed_size <= path.stat().st_size - at - len(last) - 1:
        raise _unreadable(path, f"its header announces {packed_size} compressed bytes, the file has fewer")
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    return Announced(tuple(sizes), voxel_bytes, is_packed, element in ("FLOAT", "DOUBLE"))


def _refuse_ignored_fields(path: Path, fields: Mapping[str, str], harmless: Mapping[str, tuple[str, ...]]) -> None:
    for name in harmless.keys() & fields.keys():
        others = [value for value in fields[name].replace('"', " ").split() if value not in harmless[name]]
        if others:
            raise ImageFileError(
                f"{path.name}: its header says {name} = {' '.join(others)[:40]}, which is not supported; export it in "
                "HU (a PET in SUV) and mm without this field"
            )


def _refers_to_another(path: Path) -> ImageFileError:
    return ImageFileError(f"{path.name}: its voxels are in another file; save header and voxels as one file")


def _unreadable(path: Path, why: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: cannot be read as a volume; is the file complete? ({why})")
