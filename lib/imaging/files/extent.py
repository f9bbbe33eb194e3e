"""Plausible sizes of voxels and volumes; a header with others would make later grids enormous."""

from __future__ import annotations

from lib.errors import ImageFileError
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import VoxelOrder

MIN_SPACING_MM = 0.05  # a fifth of the finest CT pixel
MAX_PIXEL_MM = 16.0  # between rows or columns; CT has 0.2 to 1.5, PET up to 6, coarse test objects more
MAX_SLICE_MM = 150.0  # between slices; scanners reconstruct 0.3 to 20, and a part of the slices is still a CT
MAX_ACROSS_MM = 1200.0  # left to right, front to back; the widest bores have 900
MAX_ALONG_MM = 3000.0  # head to feet; the longest tables scan 2,100


def extent_fault(geometry: Geometry) -> str:
    """Return why a grid is implausible for a CT or PET of a patient; empty if it is plausible."""
    axes, spacings_mm = VoxelOrder.of(geometry).axes, geometry.spacing_mm
    for name, stored, largest_mm, longest_mm in (
        ("slices", axes[0], MAX_SLICE_MM, MAX_ALONG_MM),
        ("rows", axes[1], MAX_PIXEL_MM, MAX_ACROSS_MM),
        ("columns", axes[2], MAX_PIXEL_MM, MAX_ACROSS_MM),
    ):
        spacing_mm, count = spacings_mm[stored], geometry.shape[stored]
        if not MIN_SPACING_MM <= spacing_mm <= largest_mm:
            return f"its {name} are {spacing_mm:.4g} mm apart, expected {MIN_SPACING_MM:g} to {largest_mm:g} mm"
        if spacing_mm * count > longest_mm:
            return (
                f"its {count} {name} extend over {spacing_mm * count:.5g} mm, expected at most {longest_mm:g} mm, the "
                "limit of scanners"
            )
    return ""


def refuse_implausible_extent(geometry: Geometry, what: str) -> None:
    """Raise an error unless a grid is plausible for a CT or PET of a patient.

    Raises:
        ImageFileError: Voxels are too small or too large, or the volume is; `what` is its name in the message.
    """
    fault = extent_fault(geometry)
    if fault:
        raise ImageFileError(f"{what}: {fault}; check that its spacing is in mm, and export it again")
