"""Reading and writing of NRRD volumes in memory, with numpy alone, for requests and responses.

Slicer has no pynrrd, and a temporary file would leave a patient's image on the disk. Supports scalar volumes with three
axes in LPS, raw or gzip. Source: http://teem.sourceforge.net/nrrd/format.html (version 4).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.i18n import _

TYPES = {  # the synonyms that ITK, Slicer and ct2pet write
    "signed char": "i1", "int8": "i1", "int8_t": "i1",
    "unsigned char": "u1", "uchar": "u1", "uint8": "u1", "uint8_t": "u1",
    "short": "i2", "int16": "i2", "int16_t": "i2",
    "unsigned short": "u2", "ushort": "u2", "uint16": "u2", "uint16_t": "u2",
    "int": "i4", "int32": "i4", "int32_t": "i4",
    "unsigned int": "u4", "uint": "u4", "uint32": "u4", "uint32_t": "u4",
    "float": "f4", "double": "f8",
}  # fmt: skip
NAMES = {"i1": "int8", "u1": "uint8", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint", "f4": "float"}
VECTOR = re.compile(r"\(([^)]*)\)")
MAX_VOXELS = 2**31  # a whole-body CT has 4e8; a damaged header must not exhaust the memory
COMPRESSION_LEVEL = 1  # of zlib: nearly as small as level 6 for a CT, in a fifth of the time


@dataclass(frozen=True, eq=False)
class NrrdVolume:
    """A volume and its geometry.

    Attributes:
        array: (slices, rows, columns), of the file's type, in native byte order.
        affine: 4 x 4, from voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.
    """

    array: np.ndarray[Any, Any]
    affine: np.ndarray[Any, Any]


def read_nrrd(content: bytes) -> NrrdVolume:
    """Return the volume of a NRRD file's content.

    Raises:
        InvalidResponseError: It is none, damaged, cut off, or of a kind that the server never sends.
    """
    head, separator, data = content.partition(b"\n\n")
    lines = head.decode("ascii", "replace").splitlines()
    if not separator or not lines or not lines[0].startswith("NRRD000"):
        raise InvalidResponseError(_("Invalid response: expected an NRRD volume."))
    fields = dict(_field(line) for line in lines[1:] if ":" in line and not line.startswith("#"))
    try:
        return _volume(fields, data)
    except (KeyError, ValueError, zlib.error) as error:
        raise InvalidResponseError(
            _("The volume in the response is damaged or not supported ({reason}).").format(reason=_reason(error))
        ) from error


def to_nrrd(array: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> bytes:
    """Return a volume as gzipped NRRD file: voxels and geometry, without patient data.

    Args:
        array: (slices, rows, columns), integers of up to 32 bits or float32.
        affine: 4 x 4, from voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm.

    Raises:
        InvalidResponseError: The shape or type is not supported.
    """
    type_code = f"{array.dtype.kind}{array.dtype.itemsize}"
    if array.ndim != 3 or type_code not in NAMES:
        raise InvalidResponseError(
            _("Cannot write shape {shape} and type {dtype} as NRRD.").format(shape=array.shape, dtype=array.dtype)
        )
    slices, rows, columns = array.shape
    directions = " ".join(_vector(affine[:3, axis]) for axis in range(3))
    header = (
        f"NRRD0004\ntype: {NAMES[type_code]}\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {columns} {rows} {slices}\nspace directions: {directions}\nkinds: domain domain domain\n"
        f"endian: little\nencoding: gzip\n"
        f"space origin: {_vector(affine[:3, 3])}\n\n"
    )
    packer = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return b"".join((header.encode("ascii"), packer.compress(plain.data), packer.flush()))


def _volume(fields: dict[str, str], data: bytes) -> NrrdVolume:
    sizes = [int(size) for size in fields["sizes"].split()]
    if len(sizes) != 3 or min(sizes) < 1 or sizes[0] * sizes[1] * sizes[2] > MAX_VOXELS:
        raise ValueError(f"sizes {fields['sizes'][:60]}, expected three")
    if fields["space"].lower() not in ("left-posterior-superior", "lps"):
        raise ValueError(f"space {fields['space'][:40]}, expected left-posterior-superior")
    order = ">" if fields.get("endian", "little") == "big" else "<"
    dtype = np.dtype(order + TYPES[fields["type"]])
    expected = sizes[0] * sizes[1] * sizes[2] * dtype.itemsize
    voxels = _decompress(fields["encoding"], data, expected)
    # a writable copy: the scene can adopt it without copying in the window's thread
    array = np.frombuffer(voxels, dtype).reshape(sizes[::-1]).astype(dtype.newbyteorder("="))
    vectors = [_numbers(text) for text in VECTOR.findall(fields["space directions"])]
    affine = np.eye(4)
    affine[:3, :3] = np.array(vectors, dtype=np.float64).reshape(3, 3).T
    affine[:3, 3] = _numbers(fields["space origin"].strip("()"))
    return NrrdVolume(array, affine)


def _decompress(encoding: str, data: bytes, expected: int) -> bytes:
    """Return the bytes of the voxels; decompress no more than expected."""
    if encoding in ("gzip", "gz"):
        decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
        data = decompressor.decompress(data, expected + 1)
        if not decompressor.eof:
            raise ValueError(f"more or fewer than {expected} bytes of voxels")
    elif encoding != "raw":
        raise ValueError(f"encoding {encoding[:40]}, expected raw or gzip")
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes of voxels, expected {expected}")
    return data


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.lstrip("=").strip()


def _vector(numbers: np.ndarray[Any, Any]) -> str:
    """Return a vector as text that reads back without rounding."""
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _reason(error: Exception) -> str:
    return f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
