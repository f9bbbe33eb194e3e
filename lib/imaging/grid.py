"""The grid a recipe works on: how large a pixel is, and which slices take part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lib.errors import InputError, RecipeError
from lib.imaging.files.header_check import FLOAT_BYTES, MAX_VOLUME_BYTES
from lib.imaging.geometry import Geometry

MAX_GRID = 4096  # rows or columns, whatever the pixels of the CT and the recipe
SliceRule = Literal["resample", "match"]


@dataclass(frozen=True)
class Grid:
    """How a CT and its PET become slices of equal size.

    Attributes:
        pixel_mm: Pixel size; the CT's whole field of view is kept, so rows and columns follow from it. Or:
        size: Rows and columns, whatever the field of view (the paper's 256 x 256 images). Exactly one of the two.
        slices: `resample` takes every CT slice and interpolates the PET at its position; `match` takes only CT slices
            with a PET slice within the tolerance.
        tolerance_mm: Of `match`: the largest distance along the normal (0.2 mm in the paper).
    """

    pixel_mm: float | None = None
    size: int | None = None
    slices: SliceRule = "resample"
    tolerance_mm: float = 0.2

    def __post_init__(self) -> None:
        if (self.pixel_mm is None) == (self.size is None):
            raise RecipeError("grid: give either pixel_mm (millimetres) or size (pixels), not both and not neither")
        if self.pixel_mm is not None and not 0.1 <= self.pixel_mm <= 20:
            raise RecipeError(f"grid.pixel_mm lies between 0.1 and 20 mm, found {self.pixel_mm}")
        if self.size is not None and not 16 <= self.size <= MAX_GRID:
            raise RecipeError(f"grid.size lies between 16 and 4096 pixels, found {self.size}")
        if self.slices not in get_args(SliceRule):
            raise RecipeError(f"grid.slices is one of {', '.join(get_args(SliceRule))}, found {self.slices!r}")
        if not self.tolerance_mm >= 0:
            raise RecipeError(f"grid.tolerance_mm is at least 0, found {self.tolerance_mm}")

    def on(self, ct: Geometry) -> Geometry:
        """Return the network's grid for a CT: its slices and outer edges, the recipe's pixels.

        Raises:
            InputError: It would be larger than any volume that is read.
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
                f"a grid of {ct.shape[0]} x {rows} x {columns} pixels, at most {MAX_GRID} rows and columns and "
                f"{MAX_VOLUME_BYTES / 1e9:.0f} GB; choose larger pixels, or a volume of fewer or thicker slices"
            )
        return ct.with_pixels(rows, columns)
