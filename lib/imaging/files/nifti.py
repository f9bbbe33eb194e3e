"""NIfTI through nibabel: both orientations compared, nothing guessed, nothing altered in silence.

ITK's reader takes sform or qform without comparing them, and turns NaN into 0, which is water. `header_check.py` has
looked at the file's size and kind before.
"""

from __future__ import annotations

import gzip
import logging
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
from lib.imaging.volume import Volume
from lib.types import FloatArray, Progress, no_progress

SAME_POSITION_MM = 0.1  # how far sform and qform may place the first voxel apart: a fifth of the finest CT pixel
QUATERNION_RAD = 1.25e-3  # and how far their axes turned: nibabel takes what is within 1.2e-3 of a half turn for one
HEADER_BYTES = {348: 348, 540: 540}  # NIfTI-1 and NIfTI-2, by their first number
LARGEST_OFFSET_BYTES = 2**24  # of the voxels; header extensions hold text
MAX_BEYOND_BYTES = 512  # after the voxels, unpacked: old writers fill the last block; more means wrong dimensions
MILLIMETRES = (0, 2)  # xyzt_units, the lower three bits: unknown, and mm
UNITS = {1: "metres", 3: "micrometres"}
COLOUR, COMPLEX = {128: 3, 2304: 4}, (32, 1792, 2048)  # datatype
SCANNER = 1  # sform_code and qform_code: scanner anatomical
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
QUIET = logging.getLogger(f"{__name__}.nibabel")  # its own warnings name values of the file
QUIET.disabled = True


def read_nifti(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64], Iterator[FloatArray]]:
    """Return the shape (K, R, C), the affine from (column, row, slice) to LPS mm, and the scaled slices in file order.

    The slices are read as they are taken, one at a time, and raise as this does; packed files are read to their end,
    where their checksum lies. The file is closed after the last one.

    Raises:
        ImageFileError: Damaged, colour or complex, not three-dimensional, in other lengths than mm, without an
            orientation, with two that differ, sheared or singular.
    """
    with _named(path), ExitStack() as opened:
        file = _opened(path, opened)
        header = _header(file.read(max(HEADER_BYTES.values())), path)
        columns, rows, slices = shape = _shape(header, path)
        affine = LPS_FROM_RAS @ _affine(header, shape, path)
        read = _slices(file, header, shape, path, opened.pop_all())
    return (slices, rows, columns), affine, read


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in what libraries raise of it."""
    try:
        yield
    except (HeaderDataError, ValueError, OverflowError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(path, str(error)) from error
    except OSError as error:
        if error.strerror:
            raise
        raise _unreadable(path, str(error)) from error  # nibabel's word for too few bytes


def write_nifti(volume: Volume, path: Path, *, progress: Progress = no_progress) -> None:
    """Write NIfTI-1, float32, sform and qform alike with code 1; gzip where the name ends in .gz.

    Raises:
        OSError: It cannot be written.
    """
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.dtype("<f4"))
    header.set_data_shape(volume.geometry.shape[::-1])
    _place(header, volume.geometry)
    header.set_xyzt_units("mm")
    with ImageOpener(path, "wb") as file:  # packs with level 1 and no time stamp
        header.write_to(file)
        for done, of_slice in enumerate(volume.array, start=1):
            file.write(np.ascontiguousarray(of_slice, dtype="<f4").tobytes())
            progress(done, len(volume.array), "writing")


def _place(header: Any, geometry: Geometry) -> None:
    """Set both orientations; a slight shear, which a quaternion cannot say, is taken out where it would show."""
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
    """Return the header, minor faults put right as nibabel does (a qfac of 0 is 1); extensions are not read."""
    little, big = (int.from_bytes(start[:4], order) for order in ("little", "big"))
    size = little if little in HEADER_BYTES else big
    if size not in HEADER_BYTES:
        raise _unreadable(path, "it has no NIfTI header")
    header = (nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header)(start[:size], check=False)
    header.check_fix(logger=QUIET, error_level=40)
    if not size <= header.get_data_offset() <= LARGEST_OFFSET_BYTES:
        raise _unreadable(path, f"its voxels are said to begin at byte {header.get_data_offset()}")
    return header


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Return (columns, rows, slices); refuse what is no scalar volume."""
    datatype = int(header["datatype"])
    sizes = [int(size) for size in header.get_data_shape()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    components = COLOUR.get(datatype, 2 if datatype in COMPLEX else sizes[4] if len(sizes) > 4 else 1)
    if components != 1:
        raise ImageFileError(
            f"{path.name}: colour or vector image ({components} components), expected one number a voxel"
        )
    if len(sizes) != 3:
        raise ImageFileError(f"{path.name}: {len(sizes)} dimensions ({' x '.join(map(str, sizes))}), expected 3")
    return sizes[0], sizes[1], sizes[2]


def _affine(header: Any, shape: tuple[int, int, int], path: Path) -> NDArray[np.float64]:
    """Return the RAS affine that sform and qform agree on, or the one that is there."""
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
            f"{path.name}: sform_code and qform_code are 0, so it does not say how the patient lies in it, which is "
            "not guessed; export it again with its orientation, or set the code where the matrix is known to be right"
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
    """Return how far apart two affines place the corner they disagree on most, and what is allowed there, both mm."""
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
    """Yield the scaled slices, (R, C) float32; scaled in 64 bits, and memory stays flat."""
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
            with np.errstate(over="ignore"):  # what 32 bits cannot hold becomes infinite, and is refused as such
                scaled = stored.astype(np.float64) * slope + inter if is_scaled else stored
                yield np.ascontiguousarray(scaled, dtype=np.float32)
        if len(file.read(MAX_BEYOND_BYTES + 1)) > MAX_BEYOND_BYTES:
            size = " x ".join(map(str, shape))
            raise _unreadable(path, f"it goes on after its {size} voxels of {dtype.itemsize} bytes")


def _unreadable(path: Path, why: str) -> ImageFileError:
    return ImageFileError(f"{path.name}: cannot be read as a volume; is the file complete? ({why})")
