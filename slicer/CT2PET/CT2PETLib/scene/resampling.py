"""Resampling and body mask of arrays. Does not use MRML: it runs in a worker thread, slice by slice to yield."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk
from vtk.util import numpy_support

BODY_THRESHOLD_HU = -500.0  # as on the server: air and lung below, tissue above
OUTSIDE = -1e30


def resample(
    array: np.ndarray[Any, Any],
    *,
    ijk_to_ras: np.ndarray[Any, Any],
    target_ijk_to_ras: np.ndarray[Any, Any],
    shape: tuple[int, ...],
) -> np.ndarray[Any, Any]:
    """Return a volume resampled to another grid by linear interpolation, float32, NaN outside of the volume.

    Args:
        array: Voxels, shape (K, R, C).
        ijk_to_ras: From its voxel (i, j, k) to RAS in mm, shape (4, 4).
        target_ijk_to_ras: The same of the target grid.
        shape: (K, R, C) of the target grid.
    """
    source = _image(np.ascontiguousarray(array, dtype=np.float32))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((np.linalg.inv(ijk_to_ras) @ target_ijk_to_ras).ravel())
    transform = vtk.vtkTransform()
    transform.SetMatrix(matrix)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(source)
    reslice.SetResliceTransform(transform)
    reslice.SetInterpolationModeToLinear()
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetBackgroundLevel(OUTSIDE)
    slices, rows, columns = shape
    result = np.empty(shape, dtype=np.float32)
    for k in range(slices):
        reslice.SetOutputExtent(0, columns - 1, 0, rows - 1, k, k)
        reslice.Update()
        scalars = reslice.GetOutput().GetPointData().GetScalars()
        result[k] = numpy_support.vtk_to_numpy(scalars).reshape(rows, columns)
    result[result <= OUTSIDE / 2] = np.nan
    return result


def body_mask(ct_hu: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mask of the body: above -500 HU, with the holes of each slice filled, booleans, shape (K, R, C).

    The server closes gaps in the skin before it fills holes; this does not, so metrics may differ in the third digit.
    """
    air = np.asarray(ct_hu) <= BODY_THRESHOLD_HU
    mask = np.empty(air.shape, dtype=bool)
    for k, slice_air in enumerate(air):
        mask[k] = ~_connected_to_border(slice_air)
    return mask


def _connected_to_border(open_: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the open pixels that are connected to the border, shape (R, C)."""
    reached = np.zeros_like(open_)
    for edge in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        reached[edge] = open_[edge]
    while True:
        before = int(reached.sum())
        for lines, found in ((open_, reached), (open_.T, reached.T)):
            for direction in (slice(None), slice(None, None, -1)):
                _sweep(lines[direction], found[direction])
        if int(reached.sum()) == before:
            return reached


def _sweep(open_: np.ndarray[Any, Any], reached: np.ndarray[Any, Any]) -> None:
    """Propagate the reached pixels from each line to the next."""
    for line in range(1, len(open_)):
        reached[line] |= reached[line - 1] & open_[line]


def _image(array: np.ndarray[Any, Any]) -> vtk.vtkImageData:
    image = vtk.vtkImageData()
    image.SetDimensions(array.shape[2], array.shape[1], array.shape[0])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(array.ravel(), deep=True))
    return image
