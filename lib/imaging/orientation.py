"""One voxel order for every network and comparison: slices toward Superior, rows toward Posterior, columns toward Left.

That is the order of axial DICOM of a patient on the back (NIfTI calls it LPS). Files store others: LAS (dcm2niix), RAS
(nibabel), slices first (KiTS), DICOM with reversed rows, prone patients. Every other order is an axis permutation with
flips of this one, so nothing is interpolated; results are computed in canonical order and returned in the stored one.
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

AXIAL_TOLERANCE_DEG = 10.0  # an axis may lean this far from the patient's; a sagittal reformat leans 90
PATIENT_AXES = "left-right", "front-back", "head-feet"  # x, y and z of LPS

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class VoxelOrder:
    """How the stored array axes (slices, rows, columns) become the canonical ones, by permutation and flips alone.

    Attributes:
        shape: Of the stored array.
        axes: Which stored axis each canonical axis (slices, rows, columns) is.
        flipped: Whether that stored axis runs against the canonical direction.
    """

    shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, geometry: Geometry) -> VoxelOrder:
        """Return the order of a geometry: the assignment of axes that leans least, whatever it leans."""
        along = geometry.direction[::-1, ::-1]  # [canonical, stored axis]: share of z, y, x in slices, rows, columns
        axes = max(
            itertools.permutations(range(3)),
            key=lambda axes: float(np.abs(along[range(3), axes]).sum()),
        )
        flipped = tuple(bool(along[canonical, stored] < 0) for canonical, stored in enumerate(axes))
        return cls(geometry.shape, (axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]))

    def canonical(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a stored array (or of a slab of it) in canonical order."""
        return np.transpose(stored, self.axes)[self._steps]

    def stored(self, canonical: NDArray[Any]) -> NDArray[Any]:
        """Return a view of a canonical array in stored order: the inverse of `canonical`."""
        return np.transpose(canonical[self._steps], np.argsort(self.axes))

    def box(self, slices: slice) -> Box:
        """Return where a range of stored slices lies in the canonical array: a full range along two of its axes.

        Raises:
            InputError: The range is empty, steps, or leaves the volume.
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
    """Return the same voxel positions with slices toward Superior, rows toward Posterior, columns toward Left."""
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
    """Return a volume in canonical order; the same object where it is in that order already."""
    order = VoxelOrder.of(volume.geometry)
    if order.axes == (0, 1, 2) and not any(order.flipped):
        return volume
    array = np.ascontiguousarray(order.canonical(volume.array))
    return Volume(array, canonical_geometry(volume.geometry), volume.unit)


def axis_lean_deg(direction: NDArray[np.float64], canonical: int) -> float:
    """Return how far a unit vector leans from a patient axis: 0 head-feet, 1 front-back, 2 left-right."""
    return float(np.degrees(np.arccos(min(1.0, abs(float(direction[2 - canonical]))))))


def refuse_oblique(geometry: Geometry, what: str) -> None:
    """Return when every axis of a volume follows a patient axis within `AXIAL_TOLERANCE_DEG`.

    Args:
        geometry: Of the volume.
        what: How the message calls it: a file name or a series UID.

    Raises:
        ImageFileError: One of them leans more; the message says which and how far.
    """
    for canonical, stored in enumerate(VoxelOrder.of(geometry).axes):
        lean = axis_lean_deg(geometry.direction[:, 2 - stored], canonical)
        if lean > AXIAL_TOLERANCE_DEG:
            raise ImageFileError(
                f"{what}: oblique volume: its {('slice', 'row', 'column')[stored]} axis leans {lean:.1f} degrees from "
                f"the patient's {PATIENT_AXES[2 - canonical]} axis, expected at most {AXIAL_TOLERANCE_DEG:g}; resample "
                "it to an axial grid, or give the axial reconstruction"
            )
