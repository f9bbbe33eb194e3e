"""The grid of a recipe: pixel size, and which slices are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lib.errors import InputError, RecipeError
from lib.imaging.files.header_check import FLOAT_BYTES, MAX_VOLUME_BYTES
from lib.imaging.geometry import Geometry

MAX_GRID = 4096  # rows or columns
SliceRule = Literal["resample", "match"]


@dataclass(frozen=True)
class Grid:
    """How a CT and its PET are resampled to slices of equal size.

    Attributes:
        pixel_mm: Pixel size; rows and columns follow from it, since the CT's full field of view is kept. Give either
            this or `size`.
        size: Rows and columns, independent of the field of view (the paper's 256 x 256 images).
        slices: `resample` uses every CT slice and interpolates the PET at its position; `match` uses only CT slices
            with a PET slice within the tolerance.
        tolerance_mm: For `match`: maximum distance along the normal (0.2 mm in the paper).
    """

    pixel_mm: float | None = None
    size: int | None = None
    slices: SliceRule = "resample"
    tolerance_mm: float = 0.2

    def __post_init__(self) -> None:
        if (self.pixel_mm is None) == (self.size is None):
            raise RecipeError("grid: give either pixel_mm (millimetres) or size (pixels), not both")
        if self.pixel_mm is not None and not 0.1 <= self.pixel_mm <= 20:
            raise RecipeError(f"grid.pixel_mm must be between 0.1 and 20 mm, found {self.pixel_mm}")
        if self.size is not None and not 16 <= self.size <= MAX_GRID:
            raise RecipeError(f"grid.size must be between 16 and 4096 pixels, found {self.size}")
        if self.slices not in get_args(SliceRule):
            raise RecipeError(f"grid.slices must be one of {', '.join(get_args(SliceRule))}, found {self.slices!r}")
        if not self.tolerance_mm >= 0:
            raise RecipeError(f"grid.tolerance_mm must be 0 or above, found {self.tolerance_mm}")

    def on(self, ct: Geometry) -> Geometry:
        """Return the grid for a CT: its slices and outer edges with the recipe's pixels.

        Raises:
            InputError: The grid exceeds the size limits.
        """
        if self.size is not None:
            rows = columns = self.size
        else:
            assert self.pixel_mm is not None
            _, row_mm, column_mm = ct.spacing_mm
            rows = max(1, round(ct.shape[1] * row_mm / self.pixel_mm))
            columns = max(1, round(ct.shape[2] * column_mm / self.pixel_mm))
        if max(rows, columns) > MAX_GRID or ct.shape[0] * rows * columns * FLOAT_BYTES > MAX_VOLUME_BYTES:
            raise InputError(
                f"a grid of {ct.shape[0]} x {rows} x {columns} pixels is too large, expected at most {MAX_GRID} rows "
                f"and columns and {MAX_VOLUME_BYTES / 1e9:.0f} GB; use larger pixels, or fewer or thicker slices"
            )
        return ct.with_pixels(rows, columns)
