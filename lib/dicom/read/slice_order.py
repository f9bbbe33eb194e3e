"""One regular stack out of loose slices: ordered along the normal, checked, and given a geometry.

Order and spacing come from ImagePositionPatient projected on the slice normal, and from nothing else: SliceThickness,
SliceLocation, InstanceNumber and file names lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.errors import SliceOrderError
from lib.imaging.geometry import Geometry

ORIENTATION_TOLERANCE = 1e-3  # largest difference of a direction cosine; headers round to 4 to 6 digits
PIXEL_SPACING_TOLERANCE_MM = 1e-3
SAME_POSITION_MM = 0.01  # slices nearer than this lie at one place; the finest CT steps 0.2 mm
GAP_STEPS = 1.5  # a step of this many usual steps means that a slice is missing
UNEVEN_STEPS = 0.05  # how far from the regular grid, in steps, a slice may lie ...
UNEVEN_MM = 0.1  # ... and this far in any case: a GE Discovery ST rounds by 0.04 mm between beds
SIDEWAYS_MM = 0.5  # how far slices may stray from one line along the normal; half a CT pixel


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along the right-handed normal.

    Attributes:
        headers: One a slice.
        positions_mm: Each slice's ImagePositionPatient projected on the normal, ascending, as measured.
        geometry: The regular grid through the first and the last slice.
    """

    headers: tuple[InstanceHeader, ...]
    positions_mm: tuple[float, ...]
    geometry: Geometry


def order_stack(headers: Sequence[InstanceHeader]) -> Stack:
    """Return the stack that the slices form, whatever order they come in.

    Raises:
        SliceOrderError: Fewer than two slices, mixed planes, two slices at one place, a gap, uneven steps, gantry tilt.
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
        SliceOrderError: Not six cosines of two perpendicular unit vectors.
    """
    if len(orientation) != 6:
        raise SliceOrderError("ImageOrientationPatient is missing or incomplete; slices cannot be placed")
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    faults = abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)
    if max(faults) > 2 * ORIENTATION_TOLERANCE:
        raise SliceOrderError(f"ImageOrientationPatient {tuple(orientation)} is not two perpendicular unit vectors")
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def _refuse_mixed_planes(headers: Sequence[InstanceHeader]) -> None:
    distinct = list({id(header.shared): header.shared for header in headers}.values())
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
    lost = [header.shared.absence_reason("ImagePositionPatient") for header in headers if header.position_mm is None]
    faults = (
        [lost[0] + (f" in {len(lost)} of {len(headers)} slices" if len(lost) < len(headers) else "")] if lost else []
    )
    for shared in distinct:
        spacing = shared.pixel_spacing_mm
        absent = {"PixelSpacing": not spacing, "Rows": shared.rows < 1, "Columns": shared.columns < 1}
        faults += [shared.absence_reason(keyword) for keyword, is_absent in absent.items() if is_absent]
        if spacing and (len(spacing) != 2 or min(spacing) <= 0):
            faults.append(f"PixelSpacing {spacing} mm, expected two numbers above 0")
    if faults:
        raise SliceOrderError(f"{' and '.join(dict.fromkeys(faults))}; slices cannot be placed")


def _refuse_repeats(along: NDArray[np.float64]) -> None:
    repeats = int((np.diff(along) < SAME_POSITION_MM).sum())
    if repeats:
        raise SliceOrderError(
            f"{repeats} of {len(along)} slices lie where another one lies: several acquisitions or time frames in one "
            "series that its header does not tell apart"
        )


def _refuse_gaps(along: NDArray[np.float64]) -> None:
    steps = np.diff(along)
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > GAP_STEPS * usual)
    if len(gaps):
        first = int(gaps[0])
        raise SliceOrderError(
            f"gap: no slice between {along[first]:.2f} and {along[first + 1]:.2f} mm along the normal, where slices "
            f"stand {usual:.2f} mm apart ({len(gaps)} such gap(s)); send the missing slices"
        )
    grid = np.linspace(along[0], along[-1], len(along))
    astray = float(np.abs(along - grid).max())
    if astray > max(UNEVEN_MM, UNEVEN_STEPS * usual):
        raise SliceOrderError(
            f"uneven steps: slices stand {steps.min():.2f} to {steps.max():.2f} mm apart, up to {astray:.2f} mm off a "
            "regular stack; reconstruct with one slice distance"
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
    raise SliceOrderError(f"slices are shifted sideways against each other by up to {sideways.max():.1f} mm")


def nearly(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Return whether two lists have equal length and no number differs by more than the tolerance."""
    return len(a) == len(b) and all(abs(x - y) <= tolerance for x, y in zip(a, b, strict=True))
