"""Between grids: in-plane by exact separable weights, in space by SimpleITK.

In-plane resampling touches one slice at a time, so a slab comes out as the same slices of the whole do.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume
from lib.types import FloatArray

OUTSIDE = float("nan")  # what a resampled volume holds where the source was not measured


def resample_in_plane(slices: FloatArray, rows: int, columns: int) -> FloatArray:
    """Return slices on a finer or coarser pixel grid with the same outer edges.

    Coarser pixels average what they cover (no aliasing); finer pixels interpolate linearly between centres; at the
    border the outermost pixel is held.

    Args:
        slices: (K, R, C), float32.
        rows, columns: The wanted size.

    Returns:
        (K, rows, columns), float32.
    """
    if slices.shape[1:] == (rows, columns):
        return slices
    across_rows = in_plane_weights(slices.shape[1], rows)
    across_columns = in_plane_weights(slices.shape[2], columns)
    return np.asarray(across_rows @ slices @ across_columns.T, dtype=np.float32)


def in_plane_weights(source: int, target: int) -> FloatArray:
    """Return the (target, source) matrix that resamples one axis; each row sums to 1.

    The kernel is a triangle as wide as the larger of the two pixels: linear interpolation when the target is finer,
    a triangle-weighted mean when it is coarser (the antialiased bilinear filter of Pillow and torch).
    """
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    distance = np.abs(np.clip(centres, 0, source - 1)[:, None] - np.arange(source)[None, :])
    weights = np.clip(1 - distance / width, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def resample_to(volume: Volume, geometry: Geometry) -> Volume:
    """Return a volume linearly interpolated on another grid; NaN where the source was not measured.

    "Measured" reaches to the outer edge of the source's border voxels. Meant for PET, whose voxels are coarser than the
    CT's: there is no filter against aliasing.
    """
    image = to_sitk(volume)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(OUTSIDE)
    k, r, c = geometry.shape
    resampler.SetSize((c, r, k))
    slice_mm, row_mm, column_mm = geometry.spacing_mm
    resampler.SetOutputSpacing((column_mm, row_mm, slice_mm))
    resampler.SetOutputOrigin(geometry.origin_mm)
    resampler.SetOutputDirection(_orthonormal(geometry).flatten().tolist())
    return Volume(sitk.GetArrayFromImage(resampler.Execute(image)), geometry, volume.unit)


def to_sitk(volume: Volume) -> sitk.Image:
    """Return the volume as a SimpleITK image (index order x, y, z; LPS mm)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array))
    slice_mm, row_mm, column_mm = volume.geometry.spacing_mm
    image.SetSpacing((column_mm, row_mm, slice_mm))
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(_orthonormal(volume.geometry).flatten().tolist())
    return image


def geometry_of(image: sitk.Image) -> Geometry:
    """Return the geometry of a three-dimensional SimpleITK image."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    c, r, k = image.GetSize()
    return Geometry((k, r, c), affine)


def _orthonormal(geometry: Geometry) -> NDArray[np.float64]:
    """Return the direction matrix with rounding of the header's cosines taken out, as ITK demands."""
    u, _, vt = np.linalg.svd(geometry.direction)
    return np.asarray(u @ vt)
