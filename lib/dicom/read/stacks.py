"""Selection of the files of a series that form its volume.

A series has exactly one stack: the largest regular one. Everything else in the series is listed in a warning. A series
is refused if it cannot be split into regular stacks, if its largest stacks have equal size, or if it is a PET with
several time frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby

from lib.dicom.instance_header import InstanceHeader, SharedHeader, shared_headers
from lib.dicom.read.consistency import refuse_mixed_stack
from lib.dicom.read.duplicate_slices import (
    PixelsUnavailableError,
    differing_time_attributes,
    drop_duplicate_files,
    drop_resent_slices,
    slices_by_position,
)
from lib.dicom.read.series_filter import why_not
from lib.dicom.read.slice_order import ORIENTATION_TOLERANCE, PIXEL_SPACING_TOLERANCE_MM, Stack, nearly, order_stack
from lib.errors import SliceOrderError, UnsupportedSeriesError

TIME_FRAMES = frozenset({"DYNAMIC", "GATED"})
SPLITTERS: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("AcquisitionNumber", lambda shared: shared.acquisition_number),
    ("ImageType", lambda shared: shared.image_type),
)


def volume_stack(headers: Sequence[InstanceHeader]) -> tuple[Stack, tuple[str, ...]]:
    """Return the stack of a series, and warnings about slices that are not in it.

    Raises:
        UnsupportedSeriesError: No file of the series is a usable slice; the message is the most frequent reason.
        SliceOrderError: Neither the slices nor a part of them form a regular stack.
        DicomError: Repeated slices cannot be compared.
    """
    usable, refused = _usable(headers)
    headers, copies = drop_duplicate_files(usable)
    warnings = refused + copies
    groups = _by_plane(headers)
    resent = 0
    stacks: list[Stack] = []
    faults: list[SliceOrderError] = []
    for group in groups:
        try:
            stack, group_warnings, resent_in_group = _regular_stack(group)
        except SliceOrderError as error:
            faults.append(error)
        else:
            stacks.append(stack)
            resent += resent_in_group
            warnings += group_warnings
    if not stacks:
        fault = faults[0]  # of the largest group
        raise SliceOrderError("; ".join([str(fault), *refused])) from fault
    kept = _largest(stacks, "matrix, pixel size or orientation")
    ignored = len(headers) - resent - len(kept.headers)
    if ignored:
        warnings.append(
            f"several stacks in one series: the largest is used ({len(kept.headers)} slices of "
            f"{kept.geometry.shape[1]} x {kept.geometry.shape[2]}), {ignored} slices are ignored"
        )
    return kept, tuple(warnings)


def _usable(headers: Sequence[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    verdicts = {id(shared): why_not(shared) for shared in shared_headers(headers)}
    if set(verdicts.values()) == {None}:
        return list(headers), []
    usable = [header for header in headers if verdicts[id(header.shared)] is None]
    reasons = Counter(reason for header in headers if (reason := verdicts[id(header.shared)]) is not None)
    if not usable:
        raise UnsupportedSeriesError(reasons.most_common(1)[0][0])
    return usable, [f"{count} instance(s) ignored: {reason}" for reason, count in reasons.most_common()]


def _by_plane(headers: list[InstanceHeader]) -> list[list[InstanceHeader]]:
    """Return the slices grouped by matrix, pixel size and orientation, the largest group first."""
    groups: list[tuple[SharedHeader, list[InstanceHeader]]] = []
    group_of: dict[int, list[InstanceHeader]] = {}  # headers are shared objects: one lookup per object
    for header in headers:
        members = group_of.get(id(header.shared))
        if members is None:
            members = next((group for plane, group in groups if _same_plane(plane, header.shared)), None)
            if members is None:
                members = []
                groups.append((header.shared, members))
            group_of[id(header.shared)] = members
        members.append(header)
    return sorted((group for _, group in groups), key=len, reverse=True)


def _same_plane(a: SharedHeader, b: SharedHeader) -> bool:
    return (
        (a.rows, a.columns) == (b.rows, b.columns)
        and nearly(a.pixel_spacing_mm, b.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM)
        and nearly(a.orientation, b.orientation, ORIENTATION_TOLERANCE)
    )


def _regular_stack(group: list[InstanceHeader]) -> tuple[Stack, list[str], int]:
    """Return the group as one stack, or its largest regular part; warnings; and the number of ignored copies."""
    refuse_mixed_stack(group)
    try:
        return order_stack(group), [], 0
    except SliceOrderError as fault:
        unknown: PixelsUnavailableError | None = None
        try:
            unique = drop_resent_slices(group)
        except PixelsUnavailableError as error:
            unique, unknown = None, error
        if unique is not None:
            slices, warnings = unique
            return order_stack(slices), warnings, len(group) - len(slices)
        _refuse_time_frames(group, fault)
        for name, attribute in SPLITTERS:
            stacks = _stacks_by(group, attribute)
            if stacks:
                return _largest(stacks, name), [], 0
        if unknown is not None:
            raise SliceOrderError(str(unknown)) from fault
        raise


def _refuse_time_frames(group: list[InstanceHeader], fault: SliceOrderError) -> None:
    """Raise SliceOrderError if slices at one position have several times, since a part is only one time frame."""
    times = differing_time_attributes(group)
    kinds = {
        header.shared.pet.series_type[0] for header in group if header.shared.pet and header.shared.pet.series_type
    }
    dynamic = sorted(kinds & TIME_FRAMES)
    if dynamic and len(slices_by_position(group)) < len(group):
        raise SliceOrderError(f"SeriesType {dynamic[0]}: {fault}; send the static series") from fault
    if times:
        raise SliceOrderError(
            f"time frames (by {', '.join(times)}): slices at one position have several times, expected one; send the "
            "static series"
        ) from fault


def _largest(stacks: list[Stack], attribute: str) -> Stack:
    largest_count = max(len(stack.headers) for stack in stacks)
    largest = [stack for stack in stacks if len(stack.headers) == largest_count]
    if len(largest) > 1:
        raise SliceOrderError(
            f"{len(largest)} stacks of {largest_count} slices each in one series (by {attribute}): the intended one is "
            "unknown; send each as a series of its own"
        )
    return largest[0]


def _stacks_by(group: list[InstanceHeader], attribute: Callable[[SharedHeader], object]) -> list[Stack]:
    def value(header: InstanceHeader) -> str:
        """Return the value by which the group is split."""
        return str(attribute(header.shared))

    parts = [list(part) for _, part in groupby(sorted(group, key=value), key=value)]
    stacks = []
    for part in parts if len(parts) > 1 else []:
        try:
            stacks.append(order_stack(part))
        except SliceOrderError:
            continue  # ignored here; the caller counts ignored slices
    return stacks
