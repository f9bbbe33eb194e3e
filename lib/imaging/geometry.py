"""Geometry of a volume: its shape and the affine from voxel indices to patient coordinates in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError

SAME_GRID_TOLERANCE_MM = 1e-3  # grids whose corners differ by less are the same; far below any scanner's pixel


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular grid of slices in DICOM's patient coordinates (LPS, millimetres).

    Attributes:
        shape: (slices K, rows R, columns C).
        affine: Shape (4, 4), float64; maps the voxel (column, row, slice, 1) to (x, y, z, 1) in LPS mm, see DICOM PS3.3
            C.7.6.2.1.1. Left-handed grids are kept (dcm2niix writes LAS), so that a result is on the input's grid;
            `orientation.py` has the canonical order used for computations.

    Raises:
        InputError: The shape has an empty axis, or the affine is singular.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"a geometry needs at least one slice, row and column, found shape {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(f"an affine must be a finite 4 x 4 matrix, found shape {affine.shape}")
        if abs(float(np.linalg.det(affine[:3, :3]))) < 1e-9:
            raise InputError("singular affine: two axes of the volume are parallel, or a spacing is 0")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_dicom(
        cls,
        shape: tuple[int, int, int],
        *,
        first_position_mm: Sequence[float],
        orientation: Sequence[float],
        pixel_spacing_mm: Sequence[float],
        slice_spacing_mm: float,
    ) -> Geometry:
        """Return the geometry of slices stacked along the normal.

        Args:
            shape: (K, R, C).
            first_position_mm: ImagePositionPatient of slice 0.
            orientation: ImageOrientationPatient, six cosines: along a row, then along a column.
            pixel_spacing_mm: PixelSpacing: between rows, then between columns.
            slice_spacing_mm: Distance between neighbouring slices along the normal, above 0.
        """
        along_row, along_column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
        affine = np.eye(4)
        affine[:3, 0] = along_row * float(pixel_spacing_mm[1])
        affine[:3, 1] = along_column * float(pixel_spacing_mm[0])
        affine[:3, 2] = np.cross(along_row, along_column) * slice_spacing_mm
        affine[:3, 3] = first_position_mm
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring (slices, rows, columns)."""
        column, row, slice_ = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_), float(row), float(column)

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of the (column, row, slice) axes as columns, shape (3, 3)."""
        axes = self.affine[:3, :3]
        return np.asarray(axes / np.linalg.norm(axes, axis=0))

    @property
    def orthonormal_direction(self) -> NDArray[np.float64]:
        """The orthonormal matrix nearest to `direction`: headers round cosines, and ITK needs orthonormal ones."""
        u, _, vt = np.linalg.svd(self.direction)
        return np.asarray(u @ vt)

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector perpendicular to the slices, toward the next slice."""
        cross = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        return np.asarray(cross * np.sign(cross @ self.affine[:3, 2]) / np.linalg.norm(cross))

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """Centre of the first voxel, LPS mm."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    def slice_positions_mm(self) -> NDArray[np.float64]:
        """Return each slice's position along the normal, shape (K,)."""
        first = self.affine[:3, 3] @ self.normal
        return np.asarray(first + np.arange(self.shape[0]) * (self.affine[:3, 2] @ self.normal))

    def to_world(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return LPS mm, shape (N, 3), of voxel indices (column, row, slice), shape (N, 3)."""
        return np.asarray(voxels @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_voxel(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return fractional voxel indices (column, row, slice), shape (N, 3), of LPS points in mm, shape (N, 3)."""
        return np.asarray((points_mm - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)

    def slab(self, slices: slice) -> Geometry:
        """Return the geometry of a range of slices.

        Raises:
            InputError: The range is empty, has a step, or exceeds the volume.
        """
        start, stop = resolve_slab(slices, self.shape[0])
        affine = self.affine.copy()
        affine[:3, 3] += start * affine[:3, 2]
        return Geometry((stop - start, *self.shape[1:]), affine)

    def with_pixels(self, rows: int, columns: int) -> Geometry:
        """Return a grid with the same outer edges and slices, and another number of rows and columns."""
        affine = self.affine.copy()
        row_scale, column_scale = self.shape[1] / rows, self.shape[2] / columns
        affine[:3, 1] *= row_scale
        affine[:3, 0] *= column_scale
        # the edges stay, so the centre of the first pixel moves by half the difference of the pixel sizes
        affine[:3, 3] += (affine[:3, 1] - self.affine[:3, 1]) / 2 + (affine[:3, 0] - self.affine[:3, 0]) / 2
        return Geometry((self.shape[0], rows, columns), affine)

    def corners_mm(self) -> NDArray[np.float64]:
        """Return the centres of the eight corner voxels, LPS mm, shape (8, 3)."""
        k, r, c = (n - 1 for n in self.shape)
        voxels = np.array([(x, y, z) for z in (0, k) for y in (0, r) for x in (0, c)], float)
        return self.to_world(voxels)

    def same_grid_as(self, other: Geometry, *, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
        """Return whether both grids have the same shape and, within the tolerance, the same corners."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners_mm() - other.corners_mm()).max() <= tolerance_mm)


def resolve_slab(slices: slice, count: int) -> tuple[int, int]:
    """Return (start, stop) of a range in a volume of `count` slices; negative indices count from the end.

    Raises:
        InputError: The range is empty, has a step, or exceeds the volume.
    """
    start = 0 if slices.start is None else slices.start
    stop = count if slices.stop is None else slices.stop
    start, stop = (n + count if n < 0 else n for n in (start, stop))
    if slices.step not in (None, 1) or not 0 <= start < stop <= count:
        raise InputError(f"slices {slices.start}:{slices.stop} are not a range within the {count} slices (0:{count})")
    return start, stop


def parse_slab(text: str) -> slice | None:
    """Return the range of `A:B`, counted from 0, either end optional; None for an empty string.

    Raises:
        InputError: The text has another form.
    """
    if not text:
        return None
    first, separator, last = text.partition(":")
    try:
        if not separator:
            raise ValueError
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError as error:
        raise InputError(
            f"invalid slice range {text!r}: expected A:B, such as 10:26 for slices 10 to 25, counted from 0"
        ) from error
