"""Canonical voxel order: slices toward Superior, rows toward Posterior, columns toward Left.

This is the order of axial DICOM of a supine patient (LPS in NIfTI terms). Files have others: LAS (dcm2niix), RAS
(nibabel), slices first (KiTS), DICOM with reversed rows, prone patients. Each is an axis permutation with flips of the
canonical order, so nothing is interpolated; results are computed in canonical order and returned in the stored order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError
from lib.imaging.geometry import Geometry, resolve_slab
from lib.imaging.volume import Volume

AXIAL_TOLERANCE_DEG = 10.0  # maximum angle between a volume axis and a patient axis; a sagittal reformat has 90
PATIENT_AXES = "left-right", "front-back", "head-feet"  # x, y and z of LPS

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class VoxelOrder:
    """Permutation and flips that turn stored array axes (slices, rows, columns) into canonical ones.

    Attributes:
        shape: Shape of the stored array.
        axes: Index of the stored axis for each canonical axis (slices, rows, columns).
        flipped: Whether that stored axis has the opposite direction.
    """

    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, geometry: Geometry) -> VoxelOrder:
        """Return the order of a geometry: the assignment of axes with the smallest angles."""
        along = geometry.direction[::-1, ::-1]  # [canonical, stored axis]: share of z, y, x in slices, rows, columns
        shares = np.abs(along).tolist()  # numbers of Python: a scan of a large folder asks for thousands of orders
        axes = max(
            itertools.permutations(range(3)),
            key=lambda axes: float(shares[0][axes[0]] + shares[1][axes[1]] + shares[2][axes[2]]),
        )
        flipped = tuple(bool(along[canonical, stored] < 0) for canonical, stored in enumerate(axes))
        return cls(geometry.shape, (axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]))

    def canonical(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a stored array, or of a slab of it, in canonical order."""
        return np.transpose(stored, self.axes)[self._steps]

    def stored(self, canonical: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a canonical array in stored order: the inverse of `canonical`."""
        return np.transpose(canonical[self._steps], np.argsort(self.axes))

    def box(self, slices: slice) -> Box:
        """Return the index of a range of stored slices in the canonical array: full ranges along two axes.

        Raises:
            InputError: The range is empty, has a step, or exceeds the volume.
        """
        start, stop = resolve_slab(slices, self.shape[0])
        ranges = [slice(0, self.shape[stored]) for stored in self.axes]
        along = self.axes.index(0)
        if self.flipped[along]:
            start, stop = self.shape[0] - stop, self.shape[0] - start
        ranges[along] = slice(start, stop)
        return ranges[0], ranges[1], ranges[2]

    @property
    def _steps(self) -> Box:
        steps = [slice(None, None, -1 if flip else 1) for flip in self.flipped]
        return steps[0], steps[1], steps[2]


def canonical_geometry(geometry: Geometry) -> Geometry:
    """Return the geometry of the same voxels in canonical order."""
    order = VoxelOrder.of(geometry)
    affine = geometry.affine.copy()
    for canonical, stored in enumerate(order.axes):
        axis = geometry.affine[:3, 2 - stored]  # columns of an affine are (column, row, slice)
        sign = -1 if order.flipped[canonical] else 1
        affine[:3, 2 - canonical] = sign * axis
        if order.flipped[canonical]:
            affine[:3, 3] += (geometry.shape[stored] - 1) * axis
    shape = tuple(geometry.shape[stored] for stored in order.axes)
    return Geometry((shape[0], shape[1], shape[2]), affine)


def to_canonical(volume: Volume) -> Volume:
    """Return a volume in canonical order; the same object if it already is."""
    order = VoxelOrder.of(volume.geometry)
    if order.axes == (0, 1, 2) and not any(order.flipped):
        return volume
    array = np.ascontiguousarray(order.canonical(volume.array))
    return Volume(array, canonical_geometry(volume.geometry), volume.unit)


def axis_lean_deg(direction: NDArray[np.float64], canonical: int) -> float:
    """Return the angle between a unit vector and a patient axis: 0 head-feet, 1 front-back, 2 left-right."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(direction[2 - canonical]))))))


def refuse_oblique(geometry: Geometry, what: str) -> None:
    """Raise an error unless every axis of a volume is within `AXIAL_TOLERANCE_DEG` of a patient axis.

    Args:
        geometry: Geometry of the volume.
        what: Name of the volume in the message: a file name or a series UID.

    Raises:
        ImageFileError: An axis is oblique; the message has the axis and its angle.
    """
    for canonical, stored in enumerate(VoxelOrder.of(geometry).axes):
        lean = axis_lean_deg(geometry.direction[:, 2 - stored], canonical)
        if lean > AXIAL_TOLERANCE_DEG:
            raise ImageFileError(
                f"{what}: oblique volume: its {('slice', 'row', 'column')[stored]} axis leans {lean:.1f} degrees from "
                f"the patient's {PATIENT_AXES[2 - canonical]} axis, expected at most {AXIAL_TOLERANCE_DEG:g}; resample "
                "it to an axial grid, or use the axial reconstruction"
            )
