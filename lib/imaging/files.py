"""Volume files other programs read: NRRD and MetaImage through SimpleITK, NIfTI through nibabel."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.errors import ImageFileError, OutputError
from lib.imaging.affine import refuse_unfit_affine
from lib.imaging.announced import announced_by, refuse_unless_alone
from lib.imaging.geometry import Geometry
from lib.imaging.nifti import nifti_is_float, read_nifti, write_nifti
from lib.imaging.nrrd import write_nrrd
from lib.imaging.resample import geometry_of, to_sitk
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
    try:
        refuse_unless_alone(path)
        array, affine = read_nifti(path) if volume_suffix(path) in NIFTI else _read_itk(path)
    except OSError as error:
        raise ImageFileError(f"{path.name}: cannot be opened ({error.strerror})") from error
    refuse_unfit_affine(affine, name=path.name, matrix="direction matrix")
    _refuse_not_finite(array, path.name)
    k, r, c = array.shape
    return Volume(array, Geometry((k, r, c), affine), unit)


def _read_itk(path: Path) -> tuple[FloatArray, NDArray[np.float64]]:
    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        raise ImageFileError(
            f"{path.name}: cannot be read as a volume; is the file complete? ({_first_line(error)})"
        ) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageFileError(
            f"{path.name}: colour or vector image ({image.GetNumberOfComponentsPerPixel()} components), "
            "expected one number a voxel"
        )
    if image.GetDimension() != 3:
        raise ImageFileError(f"{path.name}: {image.GetDimension()} dimensions, expected 3")
    with np.errstate(over="ignore"):  # what 32 bits cannot hold becomes infinite, and is refused as such
        return sitk.GetArrayViewFromImage(image).astype(np.float32), geometry_of(image).affine


def _refuse_not_finite(array: FloatArray, name: str) -> None:
    # slice by slice: a mask of the whole takes longer to make room for than to count
    count = array.size - sum(int(np.count_nonzero(np.isfinite(of_slice))) for of_slice in array)
    if count:
        raise ImageFileError(
            f"{name}: holds {count} NaN or infinite voxels ({max(count / array.size, 0.0001):.2%}), which no network "
            "may see; if they lie outside the scan, write -1024 (air) there, else export it again as plain numbers"
        )


def voxels_are_float(path: Path) -> bool:
    """Return whether a volume file that could be read holds floating-point numbers; reads its header only."""
    refuse_unless_alone(path)
    if volume_suffix(path) in NIFTI:
        return nifti_is_float(path)
    reader = _reader(path)
    reader.ReadImageInformation()
    return reader.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64)


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
    """Write the volume as float32 beside `path`, then put it in place; return `path`.

    The progress is called after every slice of a NIfTI or NRRD file.

    Raises:
        ImageFileError: The suffix is none of ours.
        OutputError: It cannot be written; nothing half-written is left.
    """
    suffix = volume_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        if suffix in NIFTI:
            write_nifti(volume, beside, progress=progress)
        elif suffix == ".nrrd":
            write_nrrd(volume, beside, progress=progress)
        else:
            sitk.WriteImage(to_sitk(volume), str(beside), useCompression=True)
        announced_by(beside)
        if suffix in (".nii.gz", ".nrrd"):
            _refuse_torn(beside, volume.array.nbytes + (NIFTI_START_BYTES if suffix == ".nii.gz" else 0))
        beside.replace(path)
    except (RuntimeError, OSError, ImageFileError) as error:  # ITK may not notice that a disk is full
        raise OutputError(f"{path.name}: cannot be written; is the disk full? Free space and ask again") from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def silence_readers() -> None:
    """Let the libraries that read and write images print no warnings of their own: they name files and values."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)


def _reader(path: Path) -> sitk.ImageFileReader:
    """Return the reader of the kind that the file's name says; left alone, the first one that likes it is taken."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO({".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}[volume_suffix(path)])
    reader.SetFileName(str(path))
    return reader


def _refuse_torn(path: Path, unpacked: int) -> None:
    """Return when a gzip file ends as one of so many bytes does; a full disk is not always told."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(4), "little") != unpacked % 2**32:  # RFC 1952, ISIZE
            raise ImageFileError(f"{path.name}: torn")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
