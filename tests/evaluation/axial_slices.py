"""Geometries of axial slices for tests."""

from __future__ import annotations

from lib.imaging.geometry import Geometry


def axial_slices(
    shape: tuple[int, int, int],
    pixel_mm: float = 2.0,
    *,
    slice_mm: float = 3.0,
    left_mm: float = 0.0,
    feet_mm: float = 0.0,
) -> Geometry:
    """Return axial slices whose outer edges begin at `left_mm` and 0; the first slice is at `feet_mm`."""
    return Geometry.from_dicom(
        shape,
        first_position_mm=(left_mm + pixel_mm / 2, pixel_mm / 2, feet_mm),
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_spacing_mm=slice_mm,
    )
