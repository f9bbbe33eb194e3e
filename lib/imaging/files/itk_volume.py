"""Read NRRD and MetaImage with ITK, in a child process (`reader_main.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.errors import ImageFileError
from lib.imaging.resample import geometry_of
from lib.types import FloatArray

READERS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO"}  # by default ITK takes the first reader that accepts the file


def read_itk(path: Path) -> tuple[tuple[int, int, int], NDArray[np.float64], Iterator[FloatArray]]:
    """Return the shape (K, R, C), the affine from (column, row, slice) to LPS mm, and the slices, (R, C) float32.

    Raises:
        ImageFileError: Damaged, colour, or not three-dimensional.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[path.suffix])
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageFileError(
            f"{path.name}: cannot be read as a volume; is the file complete? ({_last_line(error)})"
        ) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageFileError(
            f"{path.name}: colour or vector image ({image.GetNumberOfComponentsPerPixel()} components), "
            "expected one value per voxel"
        )
    if image.GetDimension() != 3:
        raise ImageFileError(f"{path.name}: {image.GetDimension()} dimensions, expected 3")
    geometry = geometry_of(image)
    return geometry.shape, geometry.affine, _slices(image)


def _slices(image: sitk.Image) -> Iterator[FloatArray]:
    with np.errstate(over="ignore"):  # overflow becomes infinite, which is refused later
        for stored in sitk.GetArrayViewFromImage(image):
            yield np.ascontiguousarray(stored, dtype=np.float32)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
