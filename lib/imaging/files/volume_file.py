"""Volume files other programs read: NRRD and MetaImage through SimpleITK, NIfTI through nibabel.

They are read in a process of its own (`reader_process.py`): what a file does to a library costs that process.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.errors import ImageFileError, OutputError
from lib.files import atomic_file
from lib.imaging.affine import refuse_unfit_affine
from lib.imaging.files.extent import refuse_implausible_extent
from lib.imaging.files.header_check import announced_by, refuse_unless_alone
from lib.imaging.files.nifti import write_nifti
from lib.imaging.files.nrrd import write_nrrd
from lib.imaging.files.reader_process import read_volume
from lib.imaging.geometry import Geometry
from lib.imaging.resample import to_sitk
from lib.imaging.volume import Unit, Volume
from lib.types import FloatArray, Progress, no_progress

NIFTI = (".nii.gz", ".nii")
SUFFIXES = (*NIFTI, ".nrrd", ".mha")
NIFTI_START_BYTES = 352  # header and an empty extension, before the numbers
FORMATS = {"dicom": ("",), "nrrd": (".nrrd",), "nifti": NIFTI}  # and how the file's name ends


def read_volume_file(path: Path, *, unit: Unit) -> Volume:
    """Return the scalar volume of a NIfTI, NRRD or MHA file, its axes in the order and direction of the file.

    Raises:
        ImageFileError: Not such a file, damaged, not three-dimensional, colour, sheared, with non-finite voxels, naming
            another file that its numbers lie in, or announcing more of them than a CT can have.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise ImageFileError(f"{path.name}: not a volume file; give one of {', '.join(SUFFIXES)}")

    def check(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> None:
        """Refuse what is no volume in a patient before its voxels are read."""
        refuse_unfit_affine(affine, name=path.name, matrix="direction matrix")
        refuse_implausible_extent(Geometry(shape, affine), path.name)

    try:
        announced = refuse_unless_alone(path)
        array, affine = read_volume(path, volume_suffix(path), announced, check=check)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be opened ({error.strerror})") from error
    _refuse_not_finite(array, path.name)
    k, r, c = array.shape
    return Volume(array, Geometry((k, r, c), affine), unit)


def _refuse_not_finite(array: FloatArray, name: str) -> None:
    # slice by slice: a mask of the whole takes longer to make room for than to count
    count = array.size - sum(int(np.count_nonzero(np.isfinite(of_slice))) for of_slice in array)
    if count:
        raise ImageFileError(
            f"{name}: holds {count} NaN or infinite voxels ({max(count / array.size, 0.0001):.2%}), which no network "
            "may see; if they lie outside the scan, write -1024 (air) there, else export it again as plain numbers"
        )


def voxels_are_float(path: Path) -> bool:
    """Return whether a volume file holds floating-point numbers, or whole ones scaled to such; reads its header only.

    Raises:
        ImageFileError: As `read_volume_file`, of its header.
    """
    return refuse_unless_alone(path).is_float


def volume_suffix(path: Path) -> str:
    """Return which of `SUFFIXES` a file's name ends in.

    Raises:
        ImageFileError: None of them.
    """
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ImageFileError(f"{path.name}: unknown suffix; give one of {', '.join(SUFFIXES)}")
    return suffix


def wants_dicom(path: Path, *, named: str) -> bool:
    """Return whether a result is to be a DICOM series in a folder, rather than a volume file.

    Args:
        path: Where the result is to lie.
        named: One of `FORMATS`; empty where the file's name decides.

    Raises:
        ImageFileError: No such format, or a name that is not of the format.
    """
    if named and named not in FORMATS:
        raise ImageFileError(f"format {named}: unknown; give one of {', '.join(FORMATS)}")
    if named == "dicom":
        if path.name.lower().endswith(SUFFIXES):
            raise ImageFileError(f"{path.name}: names a volume file; a DICOM series is written into a folder")
        return True
    suffix = volume_suffix(path)
    if named and suffix not in FORMATS[named]:
        raise ImageFileError(f"{path.name}: not of format {named}, whose names end in {' or '.join(FORMATS[named])}")
    return False


def write_volume_file(volume: Volume, path: Path, *, progress: Progress = no_progress) -> Path:
    """Write the volume as float32 to `path`, whole or not at all; return `path`.

    The progress is called after every slice of a NIfTI or NRRD file.

    Raises:
        ImageFileError: The suffix is none of ours.
        OutputError: It cannot be written; nothing half-written is left.
    """
    suffix = volume_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            if suffix in NIFTI:
                write_nifti(volume, temporary, progress=progress)
            elif suffix == ".nrrd":
                write_nrrd(volume, temporary, progress=progress)
            else:
                sitk.WriteImage(to_sitk(volume), str(temporary), useCompression=True)
            announced_by(temporary)
            if suffix in (".nii.gz", ".nrrd"):
                _refuse_torn(temporary, volume.array.nbytes + (NIFTI_START_BYTES if suffix == ".nii.gz" else 0))
    except (RuntimeError, OSError, ImageFileError) as error:  # ITK may not notice that a disk is full
        raise OutputError(f"{path.name}: cannot be written; is the disk full? Free space and try again") from error
    return path


def silence_readers() -> None:
    """Let the libraries that read and write images print no warnings of their own: they name files and values."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def _refuse_torn(path: Path, unpacked: int) -> None:
    """Return when a gzip file ends as one of so many bytes does; a full disk is not always told."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") != unpacked % 2**32:  # RFC 1952, ISIZE
            raise ImageFileError(f"{path.name}: torn")
