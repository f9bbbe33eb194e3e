"""Read and write volume files: NRRD and MetaImage with SimpleITK, NIfTI with nibabel.

Files are read in a child process (`reader_process.py`), since a damaged file may crash a library.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError, OutputError
from lib.files import atomic_file
from lib.imaging.affine import refuse_unfit_affine
from lib.imaging.files.extent import refuse_implausible_extent
from lib.imaging.files.header_check import announced_by, refuse_unless_alone
from lib.imaging.files.nrrd import write_nrrd
from lib.imaging.files.reader_process import read_volume
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.types import FloatArray, Progress, no_progress

NIFTI = (".nii.gz", ".nii")
SUFFIXES = (*NIFTI, ".nrrd", ".mha")
NIFTI_START_BYTES = 352  # header and an empty extension
STORED, FAST = 0, 1  # levels of zlib; higher ones hardly reduce the size of a CT or PET
FORMATS = {"dicom": ("",), "nrrd": (".nrrd",), "nifti": NIFTI}  # suffixes by format


def read_volume_file(path: Path, *, unit: Unit) -> Volume:
    """Return the scalar volume of a NIfTI, NRRD or MHA file, with axes in the order and direction of the file.

    Raises:
        ImageFileError: Another format, damaged, not three-dimensional, colour, sheared, with non-finite voxels, with
            voxels in another file, or too large.
    """
    array, geometry = read_voxels(path)
    _refuse_not_finite(array, path.name)
    return Volume(array, geometry, unit)


def read_voxels(path: Path) -> tuple[FloatArray, Geometry]:
    """Return the voxels of a volume file, (K, R, C), of any value including NaN, and their geometry.

    Raises:
        ImageFileError: See `read_volume_file`.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise ImageFileError(f"{path.name}: not a volume file; expected one of {', '.join(SUFFIXES)}")

    def check(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        """Check the geometry before voxels are read."""
        refuse_unfit_affine(affine, name=path.name, matrix="direction matrix")
        refuse_implausible_extent(Geometry(shape, affine), path.name)

    try:
        announced = refuse_unless_alone(path)
        array, affine = read_volume(path, volume_suffix(path), announced, check=check)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be opened ({error.strerror})") from error
    k, r, c = array.shape
    return array, Geometry((k, r, c), affine)


def _refuse_not_finite(array: FloatArray, name: str) -> None:
    # slice by slice: allocating a full mask takes longer than counting
    count = array.size - sum(int(np.count_nonzero(np.isfinite(of_slice))) for of_slice in array)
    if count:
        raise ImageFileError(
            f"{name}: contains {count} NaN or infinite voxels ({max(count / array.size, 0.0001):.2%}), expected finite "
            "values; outside the scan write -1024 (air), else export the volume again"
        )


def voxels_are_float(path: Path) -> bool:
    """Return whether voxels are floating-point numbers, or integers scaled to such; reads the header only.

    Raises:
        ImageFileError: See `read_volume_file`.
    """
    return refuse_unless_alone(path).is_float


def volume_suffix(path: Path) -> str:
    """Return the suffix of a file, one of `SUFFIXES`.

    Raises:
        ImageFileError: Another suffix.
    """
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ImageFileError(f"{path.name}: unknown suffix; expected one of {', '.join(SUFFIXES)}")
    return suffix


def wants_dicom(path: Path, *, named: str) -> bool:
    """Return whether to write a DICOM series to a folder, rather than a volume file.

    Args:
        path: Output path.
        named: One of `FORMATS`; empty to use the suffix.

    Raises:
        ImageFileError: Unknown format, or a suffix of another format.
    """
    if named and named not in FORMATS:
        raise ImageFileError(f"unknown format {named}: expected one of {', '.join(FORMATS)}")
    if named == "dicom":
        if path.name.lower().endswith(SUFFIXES):
            raise ImageFileError(f"{path.name}: name of a volume file; a DICOM series needs a folder")
        return True
    suffix = volume_suffix(path)
    if named and suffix not in FORMATS[named]:
        raise ImageFileError(
            f"{path.name}: expected a name ending in {' or '.join(FORMATS[named])} for the format {named}"
        )
    return False


def write_volume_file(
    volume: Volume, path: Path, *, compression: int = STORED, progress: Progress = no_progress
) -> Path:
    """Write a volume as float32 to `path` atomically; return `path`.

    Args:
        volume: The volume.
        path: The file; its suffix chooses the format.
        compression: zlib's level: `STORED` writes the voxels as they are, ten times as fast as `FAST`, which reduces
            a PET to a third.
        progress: Called after every slice of a NIfTI or NRRD file.

    Raises:
        ImageFileError: Unknown suffix.
        OutputError: The file cannot be written; no partial file remains.
    """
    suffix = volume_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            _write(volume, temporary, suffix, compression, progress)
            announced_by(temporary)
            if suffix == ".nii.gz" or (suffix == ".nrrd" and compression):
                _check_gzip_size(temporary, volume.array.nbytes + (NIFTI_START_BYTES if suffix == ".nii.gz" else 0))
    except (RuntimeError, OSError, ImageFileError) as error:  # ITK may not notice that a disk is full
        raise OutputError(f"{path.name}: cannot be written; is the disk full? Free space and try again") from error
    return path


def _write(volume: Volume, path: Path, suffix: str, compression: int, progress: Progress) -> None:
    """Write a volume; its library is imported only now, since that takes as long as to synthesise twelve slices."""
    if suffix in NIFTI:
        from lib.imaging.files.nifti import write_nifti

        write_nifti(volume, path, level=compression, progress=progress)
    elif suffix == ".nrrd":
        write_nrrd(volume, path, level=compression, progress=progress)
    else:
        import SimpleITK as sitk

        from lib.imaging.resample import to_sitk

        sitk.WriteImage(to_sitk(volume), str(path), useCompression=compression > STORED)


def silence_readers() -> None:
    """Disable warnings of the image libraries, which have file names and values."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def _check_gzip_size(path: Path, unpacked: int) -> None:
    """Check the uncompressed size recorded in a gzip file; a full disk is not always reported."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") != unpacked % 2**32:  # RFC 1952, ISIZE
            raise ImageFileError(f"{path.name}: incomplete")
