"""Lesions of a PET as connected components, by a fixed threshold and by 41 % of each maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lib.types import BoolArray, FloatArray, NamedNumbers

NEIGHBOURS = np.ones((3, 3, 3), dtype=np.bool_)  # 26: faces, edges and corners
MIN_LESION_ML = 0.5  # a sphere of 10 mm, twice the resolution of a PET: smaller spots are noise or partial volume
RELATIVE_THRESHOLD = 0.41  # of the maximum: EANM procedure guidelines 2.0 (doi:10.1007/s00259-014-2961-x)


@dataclass(frozen=True)
class Lesion(NamedNumbers):
    """The size and the highest SUVbw of a lesion."""

    volume_ml: float
    suv_max: float


@dataclass(frozen=True, eq=False)
class Lesions:
    """The lesions of one PET.

    Attributes:
        labels: Number of each voxel's lesion, from 1; 0 outside lesions. (K, R, C).
        lesions: In the order of their numbers.
    """

    labels: NDArray[np.int32]
    lesions: tuple[Lesion, ...]


def fixed_lesions(
    suv_bw: FloatArray, inside: BoolArray, *, threshold_suv: float, voxel_ml: float, min_ml: float = MIN_LESION_ML
) -> Lesions:
    """Return the connected components above a threshold inside a mask that have a minimum volume.

    Args:
        suv_bw: SUVbw, (K, R, C).
        inside: Where lesions are searched, (K, R, C).
        threshold_suv: Voxels above it belong to a lesion.
        voxel_ml: Volume of a voxel.
        min_ml: Smaller components are ignored.
    """
    return _components((suv_bw > threshold_suv) & inside, suv_bw, voxel_ml=voxel_ml, min_ml=min_ml)


def relative_lesions(fixed: Lesions, suv_bw: FloatArray, *, voxel_ml: float, min_ml: float = MIN_LESION_ML) -> Lesions:
    """Return the parts of lesions that reach 41 % of their lesion's maximum; a lesion may fall into several."""
    if not fixed.lesions:
        return fixed
    thresholds = np.array([np.inf, *(RELATIVE_THRESHOLD * lesion.suv_max for lesion in fixed.lesions)], np.float32)
    return _components(suv_bw >= thresholds[fixed.labels], suv_bw, voxel_ml=voxel_ml, min_ml=min_ml)


def relative_mask(suv_bw: FloatArray, region: BoolArray) -> BoolArray:
    """Return the voxels of a region that reach 41 % of its maximum, (K, R, C); none where it is not above 0."""
    highest = suv_bw.max(where=region, initial=0)
    return region & (suv_bw >= RELATIVE_THRESHOLD * highest) if highest > 0 else np.zeros_like(region)


def contoured_lesions(suv_bw: FloatArray, regions: Sequence[BoolArray], *, voxel_ml: float) -> Lesions:
    """Return one lesion per region: its voxels that reach 41 % of the region's maximum.

    A voxel of several regions belongs to the smallest one; a lesion that is left without a voxel is omitted.
    """
    labels: NDArray[np.int32] = np.zeros(suv_bw.shape, dtype=np.int32)
    for number, region in enumerate(sorted(regions, key=lambda region: -int(region.sum())), start=1):
        labels[relative_mask(suv_bw, region)] = number
    return _numbered(labels, len(regions), suv_bw, voxel_ml=voxel_ml, min_ml=0)


def _components(mask: BoolArray, suv_bw: FloatArray, *, voxel_ml: float, min_ml: float) -> Lesions:
    labels: NDArray[np.int32] = np.zeros(mask.shape, dtype=np.int32)
    if not mask.any():
        return Lesions(labels, ())
    (box,) = ndimage.find_objects(mask.view(np.int8))  # labelling takes time even where there is nothing
    found, count = ndimage.label(mask[box], structure=NEIGHBOURS)
    cropped = _numbered(found, count, suv_bw[box], voxel_ml=voxel_ml, min_ml=min_ml)
    labels[box] = cropped.labels
    return Lesions(labels, cropped.lesions)


def _numbered(labels: NDArray[np.int32], count: int, suv_bw: FloatArray, *, voxel_ml: float, min_ml: float) -> Lesions:
    """Return the lesions of labels 1 to `count` that have a voxel and a minimum volume, numbered anew."""
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * voxel_ml
    kept = 1 + np.flatnonzero((volumes_ml[1:] > 0) & (volumes_ml[1:] >= min_ml))
    new_number = np.zeros(count + 1, dtype=np.int32)
    new_number[kept] = 1 + np.arange(len(kept))
    highest = np.asarray(ndimage.maximum(suv_bw, labels, kept)) if len(kept) else np.zeros(0)
    lesions = (Lesion(float(volume), float(suv)) for volume, suv in zip(volumes_ml[kept], highest, strict=True))
    return Lesions(new_number[labels], tuple(lesions))
