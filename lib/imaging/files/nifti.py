"""Read and write NIfTI with nibabel; sform and qform must agree, and nothing is guessed or changed silently.

ITK's reader uses sform or qform without comparing them, and replaces NaN by 0, which is water. `header_check.py` checks
size and format of the file first.
"""

from __future__ import annotations

import gzip
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from lib.errors import ImageFileError
from lib.imaging.affine import refuse_unfit_affine
from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelMap
from lib.imaging.volume import Volume
from lib.types import FloatArray, Progress, no_progress

SAME_POSITION_MM = 0.1  # tolerance between sform and qform at the first voxel: a fifth of the finest CT pixel
QUATERNION_RAD = 1.25e-3  # and between their axes: nibabel rounds angles within 1.2e-3 of a half turn
HEADER_BYTES = {348: 348, 540: 540}  # NIfTI-1 and NIfTI-2, by sizeof_hdr
MAX_OFFSET_BYTES = 2**24  # of the voxels; before them are header extensions
MAX_EXTENSION_BYTES = 2**20  # of header extensions that are read; a table of a hundred labels has 15 kB
EXTENSION_START = 8  # bytes of esize and ecode
MAX_BEYOND_BYTES = 512  # after the voxels, uncompressed: old writers fill the last block; more means wrong dimensions
MILLIMETRES = (0, 2)  # xyzt_units, the lower three bits: unknown, and mm
UNITS = {1: "metres", 3: "micrometres"}
COLOUR, COMPLEX = {128: 3, 2304: 4}, (32, 1792, 2048)  # datatype
SCANNER = 1  # sform_code and qform_code: scanner anatomical
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
QUIET = logging.getLogger(f"{__name__}.nibabel")  # nibabel's warnings have values of the file
QUIET.disabled = True


def read_nifti(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64], Iterator[FloatArray]]:
    """Return the shape (K, R, C), the affine from (column, row, slice) to LPS mm, and the scaled slices in file order.

    The slices are read lazily, one at a time, and raise the same errors. Compressed files are read to the end, where
    their checksum is. The file is closed after the last slice.

    Raises:
        ImageFileError: Damaged, colour or complex, not three-dimensional, not in mm, without an orientation, with
            conflicting ones, sheared or singular.
    """
    with _named(path), ExitStack() as opened:
        file = _opened(path, opened)
        header = _header(file.read(max(HEADER_BYTES.values())), path)
        columns, rows, slices = shape = _shape(header, path)
        affine = LPS_FROM_RAS @ _affine(header, shape, path)
        read = _slices(file, header, shape, path, opened.pop_all())
    return (slices, rows, columns), affine, read


def read_extensions(path: Path) -> tuple[bytes, ...]:
    """Return the contents of a file's header extensions, at most a megabyte; reads nothing beyond the header.

    Raises:
        ImageFileError: The header is damaged.
        OSError: The file cannot be opened.
    """
    with _named(path), ExitStack() as opened:
        file = _opened(path, opened)
        header = _header(file.read(max(HEADER_BYTES.values())), path)
        size = int(header["sizeof_hdr"])
        file.seek(size)
        has_extensions = file.read(4)[:1] == b"\1"
        length = max(0, min(int(header.get_data_offset()) - size - 4, MAX_EXTENSION_BYTES))
        content = file.read(length) if has_extensions else b""
    found = []
    at = 0
    while at + EXTENSION_START <= len(content):
        esize, _ = struct.unpack_from(f"{header.endianness}2i", content, at)
        if not EXTENSION_START <= esize <= len(content) - at:
            break
        found.append(content[at + EXTENSION_START : at + esize])
        at += esize
    return tuple(found)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Convert errors of libraries to ImageFileError with the file name."""
    try:
        yield
    except (HeaderDataError, ValueError, OverflowError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        if error.strerror:
            raise
        raise _unreadable(path, str(error)) from error  # nibabel raises it for a truncated file


def write_nifti(volume: Volume, path: Path, *, level: int = 0, progress: Progress = no_progress) -> None:
    """Write NIfTI-1, float32, with equal sform and qform of code 1; gzip if the name ends in .gz.

    Args:
        volume: The volume.
        path: The file.
        level: Of zlib, 0 to 9; with 0, a .gz holds the voxels as they are.
        progress: Called after every slice.

    Raises:
        OSError: The file cannot be written.
    """
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.dtype("<f4"))
    header.set_data_shape(volume.geometry.shape[::-1])
    _set_orientation(header, volume.geometry)
    header.set_xyzt_units("mm")
    packing = {"compresslevel": level} if path.name.lower().endswith(".gz") else {}
    with ImageOpener(path, "wb", **packing) as file:  # without a time stamp
        header.write_to(file)
        for done, of_slice in enumerate(volume.array, start=1):
            file.write(np.ascontiguousarray(of_slice, dtype="<f4").tobytes())
            progress(done, len(volume.array), "writing")


def write_nifti_labels(label_map: LabelMap, path: Path, *, extension: bytes) -> None:
    """Write a label map as NIfTI-1, with a header extension of code 0; gzip if the name ends in .gz.

    Raises:
        OSError: The file cannot be written.
    """
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.dtype("<u2" if len(label_map.organs.names) > np.iinfo(np.uint8).max else "u1"))
    header.set_data_shape(label_map.geometry.shape[::-1])
    _set_orientation(header, label_map.geometry)
    header.set_xyzt_units("mm")
    header.extensions.append(nibabel.nifti1.Nifti1Extension(0, extension))
    with ImageOpener(path, "wb") as file:
        header.write_to(file)
        file.write(label_map.organs.labels.astype(header.get_data_dtype()).tobytes())


def _set_orientation(header: Any, geometry: Geometry) -> None:
    """Set sform and qform; remove a slight shear, which a quaternion cannot represent, if they would conflict."""
    affine = LPS_FROM_RAS @ geometry.affine
    header.set_qform(affine, SCANNER)
    if _conflict(affine, header.get_qform(), geometry.shape[::-1]) is not None:
        u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
        affine[:3, :3] = u @ vt * np.linalg.norm(affine[:3, :3], axis=0)
    header.set_sform(affine, SCANNER)


def _opened(path: Path, opened: ExitStack) -> BinaryIO | gzip.GzipFile:
    file = opened.enter_context(path.open("rb"))
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return opened.enter_context(gzip.GzipFile(fileobj=file)) if is_packed else file


def _header(start: bytes, path: Path) -> Any:
    """Return the header with minor faults fixed by nibabel (a qfac of 0 becomes 1); extensions are not read."""
    little, big = (int.from_bytes(start[:4], order) for order in ("little", "big"))
    size = little if little in HEADER_BYTES else big
    if size not in HEADER_BYTES:
        raise _unreadable(path, "it has no NIfTI header")
    header = (nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header)(start[:size], check=False)
    header.check_fix(logger=QUIET, error_level=40)
    if not size <= header.get_data_offset() <= MAX_OFFSET_BYTES:
        raise _unreadable(path, f"its header has voxels beginning at byte {header.get_data_offset()}")
    return header


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Return (columns, rows, slices); raise an error unless it is a scalar volume."""
    datatype = int(header["datatype"])
    sizes = [int(size) for size in header.get_data_shape()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    components = COLOUR.get(datatype, 2 if datatype in COMPLEX else sizes[4] if len(sizes) > 4 else 1)
    if components != 1:
        raise ImageFileError(
            f"{path.name}: colour or vector image ({components} components), expected one value per voxel"
        )
    if len(sizes) != 3:
        raise ImageFileError(f"{path.name}: {len(sizes)} dimensions ({' x '.join(map(str, sizes))}), expected 3")
    return sizes[0], sizes[1], sizes[2]


def _affine(header: Any, shape: tuple[int, int, int], path: Path) -> NDArray[np.float64]:
    """Return the RAS affine of sform and qform, which must agree if both are set."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in MILLIMETRES:
        raise ImageFileError(
            f"{path.name}: xyzt_units says {UNITS.get(unit, f'code {unit}')}, expected mm; convert the affine to mm "
            "and save it with xyzt_units mm"
        )
    forms = {"sform": header.get_sform(coded=True), "qform": header.get_qform(coded=True)}
    stated = {name: np.asarray(affine, np.float64) for name, (affine, code) in forms.items() if code > 0}
    if not stated:
        raise ImageFileError(
            f"{path.name}: sform_code and qform_code are 0, so the orientation is unknown; export it again with its "
            "orientation, or set the code if the matrix is known to be right"
        )
    for name, affine in stated.items():
        refuse_unfit_affine(affine, name=path.name, matrix=name)
    if len(stated) == 2:
        conflict = _conflict(stated["sform"], stated["qform"], shape)
        if conflict is not None:
            codes = " and ".join(f"{name} (code {code})" for name, (_, code) in forms.items())
            raise ImageFileError(
                f"{path.name}: {codes} place the volume up to {conflict[0]:.2f} mm apart, expected at most "
                f"{conflict[1]:.2f} mm; find out which is right and copy it over the other, or set the other's "
                "code to 0"
            )
    return next(iter(stated.values()))


def _conflict(a: NDArray[np.float64], b: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[float, float] | None:
    """Return the distance in mm at the corner with the largest conflict, and its tolerance; None if they agree."""
    corners = np.array([(*corner, 1.0) for corner in np.ndindex(2, 2, 2)]) * [*(n - 1 for n in shape), 1]
    apart_mm = np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1)
    allowed_mm = SAME_POSITION_MM + QUATERNION_RAD * np.linalg.norm((corners @ a.T)[:, :3] - a[:3, 3], axis=1)
    if not (apart_mm > allowed_mm).any():
        return None
    worst = int((apart_mm - allowed_mm).argmax())
    return float(apart_mm[worst]), float(allowed_mm[worst])


def _slices(
    file: BinaryIO | gzip.GzipFile, header: Any, shape: tuple[int, int, int], path: Path, opened: ExitStack
) -> Iterator[FloatArray]:
    """Yield the scaled slices, (R, C) float32; scaling is in float64, one slice in memory at a time."""
    columns, rows, slices = shape
    dtype = header.get_data_dtype()
    with opened, _named(path):
        slope, inter = header.get_slope_inter()
        is_scaled = (slope, inter) not in ((None, None), (1.0, 0.0))
        file.seek(header.get_data_offset())
        for _ in range(slices):
            content = file.read(rows * columns * dtype.itemsize)
            if len(content) < rows * columns * dtype.itemsize:
                raise _unreadable(path, "it ends before its voxels do")
            stored = np.frombuffer(content, dtype).reshape(rows, columns)
            with np.errstate(over="ignore"):  # overflow becomes infinite, which is refused later
                scaled = stored.astype(np.float64) * slope + inter if is_scaled else stored
                yield np.ascontiguousarray(scaled, dtype=np.float32)
        if len(file.read(MAX_BEYOND_BYTES + 1)) > MAX_BEYOND_BYTES:
            size = " x ".join(map(str, shape))
            raise _unreadable(path, f"it has further data after its {size} voxels of {dtype.itemsize} bytes")


def _unreadable(path: Path, why: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: cannot be read as a volume; is the file complete? ({why})")
