"""Which of a series' files form its volume, and what is left out and why.

The rule, chosen for its plainness: a series keeps its UID and **one** stack, the largest clean one; whatever else lay
in the series is named in a warning. What cannot be split cleanly is refused as a whole, with the fault that was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from lib.dicom.header import InstanceHeader, SharedHeader
from lib.dicom.kinds import why_not
from lib.dicom.order import (
    ORIENTATION_TOLERANCE,
    PIXEL_SPACING_TOLERANCE_MM,
    SAME_PLACE_MM,
    Stack,
    nearly,
    order_stack,
    slice_normal,
)
from lib.errors import SliceOrderError, UnsupportedSeriesError

TIME_FRAMES = frozenset({"DYNAMIC", "GATED"})
SPLITTERS: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("AcquisitionNumber", lambda shared: shared.acquisition_number),
    ("ImageType", lambda shared: shared.image_type),
)


def volume_stack(headers: Sequence[InstanceHeader]) -> tuple[Stack, tuple[str, ...]]:
    """Return the stack a series stands for, and warnings about what was left out of it.

    Raises:
        UnsupportedSeriesError: No file of the series is a usable slice; the message is the commonest reason.
        SliceOrderError: The slices do not form a clean stack, whole or in parts.
    """
    headers, warnings = _without_duplicates(headers)
    headers, refused = _usable(headers)
    warnings += refused
    groups = _by_plane(headers)
    stacks: list[Stack] = []
    faults: list[SliceOrderError] = []
    for group in groups:
        try:
            stacks.append(_clean_stack(group))
        except SliceOrderError as error:
            faults.append(error)
    if not stacks:
        raise faults[0]  # of the largest group
    kept = max(stacks, key=lambda stack: len(stack.headers))
    left_out = len(headers) - len(kept.headers)
    if left_out:
        warnings.append(
            f"several stacks in one series: the largest is used ({len(kept.headers)} slices of "
            f"{kept.geometry.shape[1]} x {kept.geometry.shape[2]}), {left_out} slices are left out"
        )
    return kept, tuple(warnings)


def _without_duplicates(headers: Sequence[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    """Keep one file of each SOPInstanceUID: the first in path order, so that every scan keeps the same one."""
    first: dict[tuple[str, int], InstanceHeader] = {}
    for header in sorted(headers, key=lambda header: header.path):
        first.setdefault((header.sop_instance_uid, header.frame), header)
    copies = 0
    if len(first) < len(headers):  # frames count with their file
        copies = len({header.path for header in headers}) - len({header.path for header in first.values()})
    warning = f"{copies} duplicate file(s) with a SOPInstanceUID that another file has; the first in path order is used"
    return list(first.values()), [warning] if copies else []


def _usable(headers: list[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    verdicts = {shared: why_not(shared) for shared in {header.shared for header in headers}}
    usable = [header for header in headers if verdicts[header.shared] is None]
    reasons = Counter(reason for header in headers if (reason := verdicts[header.shared]) is not None)
    if not usable:
        raise UnsupportedSeriesError(reasons.most_common(1)[0][0])
    return usable, [f"{count} instance(s) left out: {reason}" for reason, count in reasons.most_common()]


def _by_plane(headers: list[InstanceHeader]) -> list[list[InstanceHeader]]:
    """Return the slices grouped by matrix, pixel size and orientation, the largest group first."""
    groups: list[tuple[SharedHeader, list[InstanceHeader]]] = []
    home: dict[SharedHeader, list[InstanceHeader]] = {}
    for header in headers:
        members = home.get(header.shared)
        if members is None:
            members = next((group for plane, group in groups if _same_plane(plane, header.shared)), None)
            if members is None:
                members = []
                groups.append((header.shared, members))
            home[header.shared] = members
        members.append(header)
    return sorted((group for _, group in groups), key=len, reverse=True)


def _same_plane(a: SharedHeader, b: SharedHeader) -> bool:
    return (
        (a.rows, a.columns) == (b.rows, b.columns)
        and nearly(a.pixel_spacing_mm, b.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM)
        and nearly(a.orientation, b.orientation, ORIENTATION_TOLERANCE)
    )


def _clean_stack(group: list[InstanceHeader]) -> Stack:
    """Return the group as one stack, or its largest clean part by acquisition or image type."""
    try:
        return order_stack(group)
    except SliceOrderError as fault:
        if _holds_time_frames(group):
            series_type = group[0].shared.pet.series_type[0] if group[0].shared.pet else ""
            raise SliceOrderError(f"SeriesType {series_type}: {fault}; send the static series") from fault
        for _, attribute in SPLITTERS:
            stacks = _stacks_by(group, attribute)
            if stacks:
                return max(stacks, key=lambda stack: len(stack.headers))
        raise


def _stacks_by(group: list[InstanceHeader], attribute: Callable[[SharedHeader], object]) -> list[Stack]:
    def value(header: InstanceHeader) -> str:
        """Return what the parts differ by."""
        return str(attribute(header.shared))

    parts = [list(part) for _, part in groupby(sorted(group, key=value), key=value)]
    stacks = []
    for part in parts if len(parts) > 1 else []:
        try:
            stacks.append(order_stack(part))
        except SliceOrderError:
            continue  # this part is left out; the caller counts and names what is
    return stacks


def _holds_time_frames(group: list[InstanceHeader]) -> bool:
    """Return whether a PET group is a dynamic or gated one: then a part of it is one moment, not the series."""
    pets = {header.shared.pet for header in group if header.shared.pet is not None}
    if not any(TIME_FRAMES.intersection(pet.series_type[:1]) for pet in pets):
        return False
    normal = slice_normal(group[0].shared.orientation)
    along = sorted(float(normal @ header.position_mm) for header in group if header.position_mm is not None)
    return any(b - a < SAME_PLACE_MM for a, b in pairwise(along))
