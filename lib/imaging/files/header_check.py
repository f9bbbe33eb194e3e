"""What a volume file says of itself, read before a reader that believes it: no other file, no impossible size.

A NRRD or MetaImage header may name another file that its numbers lie in, and a NIfTI header may stand for a pair of
files: the readers open them, whatever they are. Any of them may announce more numbers than memory holds.
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
MAX_TIMES_PACKED = 100  # read, of a packed byte; CTs reach 4 to 40, a bomb of zeros 1,000 and more
ALWAYS_TAKEN_BYTES = 2**28  # stored and read; below this a volume may be as empty as it likes
FLOAT_BYTES = 4  # of a voxel as it is read
LONGEST_HEADER_BYTES = 2**20
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
# What would change numbers or lengths and ITK passes over without a word, and the values that change nothing:
NRRD_PASSED_OVER = {"oldmin": (), "oldmax": (), "spaceunits": ("mm", "???", "")}
META_PASSED_OVER = {
    "ElementToIntensityFunctionSlope": ("1", "1.0"),
    "ElementToIntensityFunctionOffset": ("0", "0.0"),
    "DistanceUnits": ("mm", "?"),
}


@dataclass(frozen=True)
class Announced:
    """The numbers that a header announces.

    Attributes:
        sizes: Of the axes in the order of the file, the fastest first.
        voxel_bytes: Of one voxel as it is stored, unpacked.
        is_packed: Compressed in the file.
        is_float: Floating-point numbers, or whole ones that the header scales to such.
    """

    sizes: tuple[int, ...]
    voxel_bytes: int
    is_packed: bool
    is_float: bool

    @property
    def voxels(self) -> int:
        """How many."""
        return math.prod(self.sizes)

    @property
    def stored_bytes(self) -> int:
        """Of all voxels, unpacked."""
        return self.voxels * self.voxel_bytes

    @property
    def needed_bytes(self) -> int:
        """Of all voxels as they are stored and as float32, which is what reading them takes."""
        return self.stored_bytes + self.voxels * FLOAT_BYTES

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the array, slices first; axes of size 1 behind the third are dropped, as readers do."""
        sizes = list(self.sizes)
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        return tuple(reversed(sizes))


def refuse_unless_alone(path: Path) -> Announced:
    """Return what the header of a file of a known suffix announces, where the file alone holds that.

    Raises:
        ImageFileError: Another kind of file than its name says, damaged, naming another file, or too large.
    """
    name, announced = path.name, announced_by(path)
    found, needed = path.stat().st_size, announced.needed_bytes
    if needed > MAX_VOLUME_BYTES:
        raise ImageFileError(
            f"{name}: its header announces {announced.voxels:.2g} voxels of {announced.voxel_bytes} bytes, which take "
            f"{needed / 1e9:.3g} GB to read, at most {MAX_VOLUME_BYTES / 1e9:.0f} GB are taken; is the file damaged? "
            "Crop or resample it"
        )
    if announced.is_packed and needed > max(ALWAYS_TAKEN_BYTES, MAX_TIMES_PACKED * found):
        raise ImageFileError(
            f"{name}: {found} bytes that take {needed} to read, over {MAX_TIMES_PACKED} times as many; a CT does not "
            "pack so well. Export it uncompressed"
        )
    return announced


def announced_by(path: Path) -> Announced:
    """Return what the header of a file of a known suffix announces.

    Raises:
        ImageFileError: Another kind of file than its name says, damaged, naming another file, or too short.
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
    raise _unreadable(path, "it is no NIfTI file that holds header and numbers; a pair .hdr and .img is not taken")


def _of(path: Path, dimensions: Sequence[int], datatype: int, is_packed: bool, scale: tuple[float, float]) -> Announced:
    sizes = dimensions[1 : 1 + dimensions[0]]
    if not 1 <= dimensions[0] <= 7 or min(sizes) < 1 or datatype not in NIFTI_BYTES:
        raise _unreadable(path, f"its header announces {dimensions[0]} dimensions {list(sizes)}, datatype {datatype}")
    is_scaled = math.isfinite(scale[0]) and scale[0] != 0 and scale != (1, 0)
    return Announced(tuple(sizes), NIFTI_BYTES[datatype], is_packed, datatype in NIFTI_FLOATS or is_scaled)


def _int16(order: str, two_bytes: bytes) -> int:
    return int(struct.unpack(f"{order}h", two_bytes)[0])


def _start(path: Path, count: int) -> tuple[bytes, bool]:
    """Return the first bytes of a file, unpacked, and whether it is packed."""
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
        start = file.read(LONGEST_HEADER_BYTES)
    header, blank, _ = start.partition(b"\n\n")
    lines = header.decode("latin-1").split("\n")
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]) or not blank or "\r" in header.decode("latin-1"):
        raise _unreadable(path, "it has no NRRD header that ends in an empty line, lines parted by \\n")
    fields: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        field = NRRD_FIELD.fullmatch(line)
        if field is None and not line.startswith("#"):
            raise _unreadable(path, f"line {number} of its header is not understood")
        if field is not None:
            key = re.sub(r"\s+", "", field[1]).lower()
            if key.startswith("datafile"):
                raise _names_another(path)
            fields[key] = line.partition(":")[2].strip().lower()
    _refuse_passed_over(path, fields, NRRD_PASSED_OVER)
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        voxel_bytes = NRRD_BYTES[fields["type"]]
        encoding = fields["encoding"]
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "its header lacks type, sizes or encoding, or has others than are known") from error
    if not sizes or min(sizes) < 1:
        raise _unreadable(path, f"its header announces sizes {sizes}")
    if encoding not in ("raw", "gzip", "gz"):
        raise _unreadable(path, f"encoding {encoding[:20]!r}; write it raw or gzip")
    return Announced(tuple(sizes), voxel_bytes, encoding != "raw", fields["type"] in ("float", "double"))


def _meta(path: Path) -> Announced:
    with path.open("rb") as file:
        if not file.read(1):
            raise _unreadable(path, "it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            at = whole.find(META_DATA, 0, LONGEST_HEADER_BYTES)
            header, last = whole[: max(at, 0)], whole[at : at + 40].partition(b"\n")[0] if at >= 0 else b""
            is_only = at >= 0 and whole.find(META_DATA, at + 1) < 0
    if at < 0:
        raise _unreadable(path, "it has no MetaImage header")
    if not is_only or not re.fullmatch(rb"ElementDataFile *= *LOCAL\r?", last):
        raise _names_another(path)
    fields: dict[str, str] = {}
    for number, line in enumerate(header.decode("latin-1").splitlines(), start=1):
        field = META_FIELD.fullmatch(line)
        if field is None:
            raise _unreadable(path, f"line {number} of its header is not understood")
        fields[field[1]] = field[2].strip()
    _refuse_passed_over(path, fields, META_PASSED_OVER)
    try:
        sizes = [int(size) for size in fields["DimSize"].split()]
        channels = int(fields.get("ElementNumberOfChannels", 1))
        element = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        voxel_bytes = META_BYTES[element] * channels
        packed_size, dimensions = int(fields.get("CompressedDataSize", 0)), int(fields["NDims"])
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "its header lacks NDims, DimSize or ElementType, or has strange ones") from error
    if len(sizes) != dimensions or not sizes or min(sizes) < 1 or channels < 1 or "HeaderSize" in fields:
        raise _unreadable(path, f"its header announces {dimensions} dimensions, sizes {sizes[:8]}")
    if not 0 <= packed_size <= path.stat().st_size - at - len(last) - 1:
        raise _unreadable(path, f"its header announces {packed_size} packed bytes, the file has fewer")
    is_packed = fields.get("CompressedData", "False").lower() == "true"
    return Announced(tuple(sizes), voxel_bytes, is_packed, element in ("FLOAT", "DOUBLE"))


def _refuse_passed_over(path: Path, fields: Mapping[str, str], harmless: Mapping[str, tuple[str, ...]]) -> None:
    for name in harmless.keys() & fields.keys():
        others = [word for word in fields[name].replace('"', " ").split() if word not in harmless[name]]
        if others:
            raise ImageFileError(
                f"{path.name}: its header says {name} = {' '.join(others)[:40]}, which is not applied; export it in HU "
                "(a PET in SUV) and mm without it"
            )


def _names_another(path: Path) -> ImageFileError:
    return ImageFileError(
        f"{path.name}: its header says that the numbers lie in another file; save header and numbers as one file"
    )


def _unreadable(path: Path, why: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: cannot be read as a volume; is the file complete? ({why})")
