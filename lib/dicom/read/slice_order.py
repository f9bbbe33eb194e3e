"""Ordering of slices along their normal, with checks that they form one regular stack.

Order and spacing come only from ImagePositionPatient projected on the slice normal, because SliceThickness,
SliceLocation, InstanceNumber and file names are unreliable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lib.dicom.instance_header import InstanceHeader, SharedHeader, shared_headers
from lib.errors import SliceOrderError
from lib.imaging.geometry import Geometry

ORIENTATION_TOLERANCE = 1e-3  # maximum difference of a direction cosine; headers round to 4 to 6 digits
PIXEL_SPACING_TOLERANCE_MM = 1e-3
SAME_POSITION_MM = 0.01  # closer slices have the same position; the smallest CT spacing is 0.2 mm
GAP_STEPS = 1.5  # a spacing of this many usual spacings means that a slice is missing
UNEVEN_STEPS = 0.05  # maximum distance from the regular grid, in spacings ...
UNEVEN_MM = 0.1  # ... or in mm, if larger: a GE Discovery ST rounds by 0.04 mm between beds
SIDEWAYS_MM = 0.5  # maximum distance from one line along the normal; half a CT pixel


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along the right-handed normal.

    Attributes:
        headers: One per slice.
        positions_mm: Each slice's ImagePositionPatient projected on the normal, ascending, as measured.
        geometry: The regular grid through the first and the last slice.
    """

    headers: tuple[InstanceHeader, ...]
    positions_mm: tuple[float, ...]
    geometry: Geometry


def order_stack(headers: Sequence[InstanceHeader]) -> Stack:
    """Return the stack that the slices form, in any input order.

    Raises:
        SliceOrderError: Fewer than two slices, mixed planes, repeated positions, a gap, uneven spacing, or gantry tilt.
    """
    if len(headers) < 2:
        raise SliceOrderError(f"{len(headers)} slice, expected at least 2 to form a volume")
    _refuse_mixed_planes(headers)
    plane = headers[0].shared
    normal = slice_normal(plane.orientation)
    points = np.array([header.position_mm for header in headers], dtype=np.float64)
    along = points @ normal
    order = np.argsort(along, kind="stable")
    along, points = along[order], points[order]
    _refuse_repeats(along)
    step = (along[-1] - along[0]) / (len(along) - 1)
    _refuse_gaps(along)
    _refuse_sideways(points, along, normal)
    rows, columns = plane.rows, plane.columns
    geometry = Geometry.from_dicom(
        (len(headers), rows, columns),
        first_position_mm=points[0].tolist(),
        orientation=plane.orientation,
        pixel_spacing_mm=plane.pixel_spacing_mm,
        slice_spacing_mm=float(step),
    )
    return Stack(tuple(headers[i] for i in order), tuple(along.tolist()), geometry)


def slice_normal(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit normal of ImageOrientationPatient: row direction x column direction.

    Raises:
        SliceOrderError: The orientation is not two perpendicular unit vectors.
    """
    return _slice_normal(tuple(orientation))


@lru_cache(64)  # most slices of a folder have one of a few orientations
def _slice_normal(orientation: tuple[float, ...]) -> NDArray[np.float64]:
    if len(orientation) != 6:
        raise SliceOrderError("ImageOrientationPatient is missing or incomplete; slices have no position")
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    faults = abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)
    if max(faults) > 2 * ORIENTATION_TOLERANCE:
        raise SliceOrderError(f"ImageOrientationPatient {orientation} is not two perpendicular unit vectors")
    normal = np.cross(row, column)
    unit = np.asarray(normal / np.linalg.norm(normal))
    unit.setflags(write=False)
    return unit


def _refuse_mixed_planes(headers: Sequence[InstanceHeader]) -> None:
    distinct = shared_headers(headers)
    first = distinct[0]
    _refuse_unplaced(headers, distinct)
    for other in distinct[1:]:
        if (other.rows, other.columns) != (first.rows, first.columns):
            raise SliceOrderError(
                f"slices of {first.rows} x {first.columns} and of {other.rows} x {other.columns} pixels in one stack"
            )
        if not nearly(other.pixel_spacing_mm, first.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM):
            raise SliceOrderError(
                f"pixels of {first.pixel_spacing_mm} mm and of {other.pixel_spacing_mm} mm in one stack"
            )
        if not nearly(other.orientation, first.orientation, ORIENTATION_TOLERANCE):
            raise SliceOrderError(f"slices of orientation {first.orientation} and {other.orientation} in one stack")


def _refuse_unplaced(headers: Sequence[InstanceHeader], distinct: Sequence[SharedHeader]) -> None:
    missing = [header.shared.absence_reason("ImagePositionPatient") for header in headers if header.position_mm is None]
    faults = (
        [missing[0] + (f" in {len(missing)} of {len(headers)} slices" if len(missing) < len(headers) else "")]
        if missing
        else []
    )
    for shared in distinct:
        spacing = shared.pixel_spacing_mm
        absent = {"PixelSpacing": not spacing, "Rows": shared.rows < 1, "Columns": shared.columns < 1}
        faults += [shared.absence_reason(keyword) for keyword, is_absent in absent.items() if is_absent]
        if spacing and (len(spacing) != 2 or min(spacing) <= 0):
            faults.append(f"PixelSpacing {spacing} mm, expected two numbers above 0")
    if faults:
        raise SliceOrderError(f"{' and '.join(dict.fromkeys(faults))}; slices have no position")


def _refuse_repeats(along: NDArray[np.float64]) -> None:
    repeats = int((np.diff(along) < SAME_POSITION_MM).sum())
    if repeats:
        raise SliceOrderError(
            f"{repeats} of {len(along)} slices have the position of another slice: several acquisitions or time frames "
            "in one series that its header does not distinguish"
        )


def _refuse_gaps(along: NDArray[np.float64]) -> None:
    steps = np.diff(along)
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > GAP_STEPS * usual)
    if len(gaps):
        first = int(gaps[0])
        raise SliceOrderError(
            f"gap: no slice between {along[first]:.2f} and {along[first + 1]:.2f} mm along the normal, where slices "
            f"are {usual:.2f} mm apart ({len(gaps)} gap(s)); send the missing slices"
        )
    grid = np.linspace(along[0], along[-1], len(along))
    deviation = float(np.abs(along - grid).max())
    if deviation > max(UNEVEN_MM, UNEVEN_STEPS * usual):
        raise SliceOrderError(
            f"uneven spacing: slices are {steps.min():.2f} to {steps.max():.2f} mm apart, up to {deviation:.2f} mm off "
            "a regular stack; reconstruct with a constant slice spacing"
        )


def _refuse_sideways(points: NDArray[np.float64], along: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    offsets = points - points[0] - np.outer(along - along[0], normal)
    sideways = np.linalg.norm(offsets, axis=1)
    if sideways.max() <= SIDEWAYS_MM:
        return
    slope = offsets[-1] / (along[-1] - along[0])
    straight = np.abs(offsets - np.outer(along - along[0], slope)).max() <= SIDEWAYS_MM
    if straight:
        angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
        raise SliceOrderError(f"gantry tilt of {angle:.1f} degrees: the slices form a sheared stack; correct the tilt")
    raise SliceOrderError(f"slices are shifted sideways relative to each other by up to {sideways.max():.1f} mm")


def nearly(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Return whether two sequences have equal length and no numbers differ by more than the tolerance."""
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
