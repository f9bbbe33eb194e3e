"""Resampling between grids in space, by SimpleITK; within the slice plane see `resample_2d.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.imaging.geometry import Geometry
from lib.imaging.label_map import LabelArray, LabelMap, Organs
from lib.imaging.volume import Volume

OUTSIDE = float("nan")  # value outside the measured region of the source


def resample_to(volume: Volume, geometry: Geometry) -> Volume:
    """Return a volume linearly interpolated on another grid; NaN where the source was not measured.

    The measured region extends to the outer edges of the source's border voxels. For PET, whose voxels are coarser than
    the CT's: there is no anti-aliasing filter.
    """
    resampler = _resampler_to(geometry)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(OUTSIDE)
    return Volume(sitk.GetArrayFromImage(resampler.Execute(to_sitk(volume))), geometry, volume.unit)


def organs_on(label_map: LabelMap, geometry: Geometry) -> Organs:
    """Return the organs on another grid, each voxel that of the nearest voxel; 0 outside of the label map."""
    if label_map.geometry.same_grid_as(geometry):
        return label_map.organs
    resampler = _resampler_to(geometry)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(0)
    labels: LabelArray = sitk.GetArrayFromImage(resampler.Execute(_placed(label_map.organs.labels, label_map.geometry)))
    return Organs(labels, label_map.organs.names)


def _resampler_to(geometry: Geometry) -> sitk.ResampleImageFilter:
    resampler = sitk.ResampleImageFilter()
    k, r, c = geometry.shape
    resampler.SetSize((c, r, k))
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    resampler.SetOutputSpacing((column_mm, row_mm, slice_mm))
    resampler.SetOutputOrigin(geometry.origin_mm)
    resampler.SetOutputDirection(geometry.orthonormal_direction.flatten().tolist())
    return resampler


def to_sitk(volume: Volume) -> sitk.Image:
    """Return the volume as a SimpleITK image (index order x, y, z; LPS mm)."""
    return _placed(volume.array, volume.geometry)


def _placed(array: NDArray[Any], geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    image.SetSpacing((column_mm, row_mm, slice_mm))
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.orthonormal_direction.flatten().tolist())
    return image


def geometry_of(image: sitk.Image) -> Geometry:
    """Return the geometry of a three-dimensional SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    c, r, k = image.GetSize()
    return Geometry((k, r, c), affine)
