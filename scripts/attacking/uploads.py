"""Small uploads that take gigabytes or minutes to process on a server without limits."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.fuzzing.elements import ITEM, SEQUENCE_END, UNDEFINED, Encoding

EXPLICIT, DEFLATED, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
LITTLE = Encoding()
HUGE = 16_000  # rows and columns


@dataclass(frozen=True)
class Upload:
    """One file to send.

    Attributes:
        name: Name of the attack.
        file: Name of the uploaded file.
        make: Function that returns the content.
        is_valid: Whether it is a valid CT, which a server with enough memory may accept.
    """

    name: str
    file: str
    make: Callable[[], bytes]
    is_valid: bool = False


def memory_uploads() -> list[Upload]:
    """Return the uploads of the suite `memory`."""
    return [
        Upload("deflated DICOM, transfer syntax after 1,024 bytes", "a.zip", deflated_late),
        Upload("deflated DICOM, 12 slices of 120 MB", "a.zip", deflated_many),
        Upload("JPEG of 16,000 x 16,000", "a.zip", lambda: huge_slices("JPEG")),
        Upload("JPEG 2000 of 16,000 x 16,000", "a.zip", lambda: huge_slices("JPEG2000")),
        Upload("JPEG 2000 of 16,000 x 16,000, header of 64 x 64", "a.zip", lambda: inconsistent_slices("JPEG2000")),
        Upload("RLE, header of 16,000 x 16,000", "a.zip", rle_huge),
        Upload("NRRD with pixels 160 mm apart", "a.nrrd", nrrd_wide, is_valid=True),
        Upload("NRRD with slices 0.001 mm apart", "a.nrrd", nrrd_dense, is_valid=True),
        Upload("DICOM with pixels 160 mm apart", "a.zip", dicom_wide, is_valid=True),
        Upload(
            ".nii.gz of 1,000 x 1,000 x 1,000 uint8", "a.nii.gz", lambda: nifti_packed(1000, 1000, "u1"), is_valid=True
        ),
        Upload(".nii.gz of 512 x 512 x 1,100 int8", "a.nii.gz", lambda: nifti_packed(512, 1100, "i1"), is_valid=True),
        Upload(".nii.gz of 620 x 620 x 620 float64", "a.nii.gz", lambda: nifti_packed(620, 620, "<f8"), is_valid=True),
        Upload(".nrrd of 512 x 512 x 1,900 int16, gzip", "a.nrrd", lambda: nrrd_packed(512, 1900), is_valid=True),
        Upload("zip of a CT that unpacks to 315 MB", "a.zip", ct_of_rle, is_valid=True),
    ]


def ct_slice(
    number: int, pixels: bytes, *, rows: int, columns: int, syntax: str = EXPLICIT, bits: int = 16,
    spacing_mm: float = 0.8, uid: str = "1.2.826.0.1.3680043.9.1", padding: int = 0,
) -> bytes:  # fmt: skip
    """Return a CT instance.

    Args:
        number: Index of the slice, from 0; the slice spacing is 3 mm.
        pixels: Value of PixelData: raw pixels, or one encoded frame.
        padding: Additional bytes of FileMetaInformationVersion, which precedes the transfer syntax.
    """
    frame, instance = uid + ".1", f"{uid}.2.{number + 1}"
    meta = b"".join((
        LITTLE.element(0x00020001, "OB", b"\0\1" + bytes(padding)),
        LITTLE.element(0x00020002, "UI", CT_STORAGE.encode()),
        LITTLE.element(0x00020003, "UI", instance.encode()),
        LITTLE.element(0x00020010, "UI", syntax.encode()),
    ))  # fmt: skip
    meta = LITTLE.element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    us = struct.Struct("<H").pack
    body = b"".join(LITTLE.element(tag, vr, value) for tag, vr, value in (
        (0x00080016, "UI", CT_STORAGE.encode()), (0x00080018, "UI", instance.encode()), (0x00080060, "CS", b"CT"),
        (0x00100020, "LO", b"ATTACK"),
        (0x0020000D, "UI", f"{uid}.3".encode()), (0x0020000E, "UI", f"{uid}.4".encode()),
        (0x00200013, "IS", str(number + 1).encode()), (0x00200032, "DS", f"-200\\-200\\{3 * number}".encode()),
        (0x00200037, "DS", b"1\\0\\0\\0\\1\\0"), (0x00200052, "UI", frame.encode()),
        (0x00280002, "US", us(1)), (0x00280004, "CS", b"MONOCHROME2"), (0x00280010, "US", us(rows)),
        (0x00280011, "US", us(columns)), (0x00280030, "DS", f"{spacing_mm}\\{spacing_mm}".encode()),
        (0x00280100, "US", us(bits)), (0x00280101, "US", us(bits)), (0x00280102, "US", us(bits - 1)),
        (0x00280103, "US", us(0)), (0x00281052, "DS", b"-1024"), (0x00281053, "DS", b"1" if bits == 16 else b"8"),
    ))  # fmt: skip
    if syntax in (EXPLICIT, DEFLATED):
        body += LITTLE.element(0x7FE00010, "OW" if bits == 16 else "OB", pixels)
    else:
        body += LITTLE.head(0x7FE00010, "OB", UNDEFINED) + LITTLE.head(ITEM, "", 0)
        body += LITTLE.element(ITEM, "OB", pixels) + LITTLE.head(SEQUENCE_END, "", 0)
    if syntax == DEFLATED:
        packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    return bytes(128) + b"DICM" + meta + body


def zipped(slices: list[bytes]) -> bytes:
    """Return a zip of files."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for number, content in enumerate(slices):
            file.writestr(f"{number:04d}.dcm", content)
    return archive.getvalue()


def deflated_late() -> bytes:
    """Return a zip with a deflated file of 1.5 MB that inflates to 1.5 GB, its transfer syntax after 1,024 bytes."""
    empty = ct_slice(0, b"", rows=512, columns=512, syntax=DEFLATED, padding=2000)
    (meta_bytes,) = struct.unpack_from("<I", empty, 140)
    head, packed = empty[: 144 + meta_bytes], empty[144 + meta_bytes :]
    body = zlib.decompress(packed, wbits=-zlib.MAX_WBITS)[:-12]  # without the empty PixelData element
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [head, packer.compress(body + LITTLE.head(0x7FE00010, "OW", 1_500_000_000))]
    block = bytes(10**6)
    parts += [packer.compress(block) for _ in range(1500)]
    parts.append(packer.flush())
    return zipped([b"".join(parts)])


def deflated_many() -> bytes:
    """Return a zip of 12 deflated slices of 120 MB each."""
    pixels = _hu(7700, 7700).tobytes()
    return zipped([ct_slice(n, pixels, rows=7700, columns=7700, syntax=DEFLATED, spacing_mm=0.06) for n in range(12)])


def huge_slices(codec: str, *, count: int = 3) -> bytes:
    """Return a zip of slices of 16,000 x 16,000 equal pixels."""
    frame, syntax, bits = _huge_frame(codec)
    return zipped(
        [ct_slice(n, frame, rows=HUGE, columns=HUGE, syntax=syntax, bits=bits, spacing_mm=0.03) for n in range(count)]
    )


def inconsistent_slices(codec: str) -> bytes:
    """Return a zip of slices with 64 x 64 pixels in the header and 16,000 x 16,000 in the codestream."""
    frame, syntax, bits = _huge_frame(codec)
    return zipped([ct_slice(n, frame, rows=64, columns=64, syntax=syntax, bits=bits) for n in range(3)])


def _huge_frame(codec: str) -> tuple[bytes, str, int]:
    file = io.BytesIO()
    if codec == "JPEG":
        Image.new("L", (HUGE, HUGE), 128).save(file, "JPEG", quality=10, optimize=True)
        return file.getvalue(), JPEG_BASELINE, 8
    # a raw codestream, not a JP2 file
    Image.new("L", (HUGE, HUGE), 128).save(file, "JPEG2000", no_jp2=True, irreversible=False)
    return file.getvalue(), JPEG_2000, 8


def rle_frame(rows: int, columns: int) -> bytes:
    """Return an RLE frame of 16-bit numbers: air (24), and water (1,048) in the middle half of each row."""
    quarter = columns // 4
    high = _runs(0, quarter) + _runs(4, columns - 2 * quarter) + _runs(0, quarter)
    low = _runs(24, columns)
    segments = [high * rows, low * rows]
    offsets = [64, 64 + len(segments[0])]
    return struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(segments)


def _runs(value: int, count: int) -> bytes:
    """Return `count` equal bytes encoded as PackBits."""
    full, record_idle_memory = divmod(count, 128)
    runs = bytes((129, value)) * full
    if record_idle_memory == 1:
        return runs + bytes((0, value))
    return runs + (bytes((257 - record_idle_memory, value)) if record_idle_memory else b"")


def rle_huge() -> bytes:
    """Return a zip of RLE slices of 64 x 64 pixels with 16,000 x 16,000 in the header."""
    frame = rle_frame(64, 64)
    return zipped([ct_slice(n, frame, rows=HUGE, columns=HUGE, syntax=RLE, spacing_mm=0.03) for n in range(3)])


def ct_of_rle(*, slices: int = 600, matrix: int = 512) -> bytes:
    """Return a zip below 1 MB with a valid CT of 512 x 512 x 600 pixels of 16 bits."""
    frame = rle_frame(matrix, matrix)
    return zipped([ct_slice(n, frame, rows=matrix, columns=matrix, syntax=RLE) for n in range(slices)])


def dicom_wide() -> bytes:
    """Return a zip of a CT of 64 x 64 pixels with a spacing of 160 mm."""
    pixels = _hu(64, 64).tobytes()
    return zipped([ct_slice(n, pixels, rows=64, columns=64, spacing_mm=160.0) for n in range(4)])


def _hu(rows: int, columns: int) -> NDArray[np.uint16]:
    stored = np.full((rows, columns), 24, "<u2")
    stored[rows // 4 : -rows // 4, columns // 4 : -columns // 4] = 1048
    return stored


def nrrd(sizes: tuple[int, int, int], spacing_mm: tuple[float, float, float], numbers: bytes, **other: str) -> bytes:
    """Return a NRRD of sizes and spacing in x, y, z."""
    directions = " ".join(
        "(" + ",".join(str(step if axis == own else 0) for axis in range(3)) + ")"
        for own, step in enumerate(spacing_mm)
    )
    fields = {"type": "int16", "dimension": "3", "space": "left-posterior-superior",
              "sizes": " ".join(map(str, sizes)), "space directions": directions, "kinds": "domain domain domain",
              "endian": "little", "encoding": "raw", "space origin": "(0,0,0)", **other}  # fmt: skip
    lines = "".join(f"{key}: {value}\n" for key, value in fields.items())
    return f"NRRD0004\n{lines}\n".encode() + numbers


def ct_numbers(slices: int, rows: int, columns: int) -> bytes:
    """Return the 16-bit HU of air around water."""
    one = (_hu(rows, columns).astype("<i2") - 1024).tobytes()
    return one * slices


def nrrd_wide() -> bytes:
    """Return a NRRD of 16 kB with a pixel spacing of 160 mm."""
    return nrrd((64, 64, 2), (160.0, 160.0, 3.0), ct_numbers(2, 64, 64))


def nrrd_dense() -> bytes:
    """Return a NRRD of 100 kB with 200 slices and a slice spacing of 0.001 mm."""
    return nrrd((16, 16, 200), (20.0, 20.0, 0.001), ct_numbers(200, 16, 16))


def nrrd_packed(rows: int, slices: int) -> bytes:
    """Return a NRRD of 16-bit numbers, gzip, that packs less than 300 times."""
    packed = _packed_ct(b"", rows * rows * slices, np.dtype("<i2"), air=-1000, water=0)
    return nrrd((rows, rows, slices), (1.0, 1.0, 1.0), packed, encoding="gzip")


def nifti_packed(rows: int, slices: int, dtype: str) -> bytes:
    """Return a .nii.gz of numbers of a type, slope 8 and intercept -1024, that packs less than 300 times."""
    code, bits = {"u1": (2, 8), "i1": (256, 8), "<f8": (64, 64)}[dtype]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, rows, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352.0, 8.0, -1024.0)
    struct.pack_into("<2h", header, 252, 0, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return _packed_ct(bytes(header), rows * rows * slices, np.dtype(dtype), air=3, water=127)


def _packed_ct(start: bytes, count: int, dtype: np.dtype[Any], *, air: int, water: int) -> bytes:
    """Return a gzip of `start`, noise (1 in 300 voxels), air (half) and water (half)."""
    noise = np.random.default_rng(0).integers(air, water, max(1, count // 300 * 2), endpoint=True).astype(dtype)
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        packed.write(start + noise.tobytes())
        halves = ((air, count // 2 - noise.size), (water, count - count // 2))
        for value, remaining in halves:
            block = np.full(2**20, value, dtype).tobytes()
            for _ in range(remaining // 2**20):
                packed.write(block)
            packed.write(block[: remaining % 2**20 * dtype.itemsize])
    return file.getvalue()
