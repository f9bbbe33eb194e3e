"""Slices with the position or the UID of another slice: copies of it, or other measurements.

Copies are identified by their content: equal position, equal attributes of the measurement, equal physical values.
Pixels are read only from slices that repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.dicom.read.frame_pixels import read_header_slice
from lib.dicom.read.slice_order import SAME_POSITION_MM, slice_normal
from lib.errors import DicomError, SliceOrderError

Position = list[InstanceHeader]
_path_order = attrgetter("path", "frame")
TIMES: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("TemporalPositionIdentifier", lambda shared: shared.temporal_position),
    ("TriggerTime", lambda shared: shared.trigger_time),
)
PET_TIMES: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("AcquisitionNumber", lambda shared: shared.acquisition_number),
    ("FrameReferenceTime", lambda shared: shared.bed and shared.bed.frame_reference_time_s),
    ("AcquisitionTime", lambda shared: shared.bed and (shared.bed.acquisition_date, shared.bed.acquisition_time)),
    *TIMES,
)  # in a CT, AcquisitionNumber and time distinguish scans, which may share positions; in a PET, frames


class PixelsUnavailableError(DicomError):
    """Slices cannot be compared because their files are not on this machine."""


def drop_duplicate_files(headers: Iterable[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    """Return the headers without further files of one SOPInstanceUID and the same slice, and warnings.

    The first file in path order is kept, so that every scan keeps the same one. Different slices with one UID stay.

    Raises:
        SliceOrderError: Two files have one UID and position but different content.
        DicomError: A file cannot be read for the comparison.
    """
    in_order = sorted(headers, key=_path_order)
    if len({(header.sop_instance_uid, header.frame) for header in in_order}) == len(in_order):
        return in_order, []
    kept: dict[tuple[str, int], Position] = {}  # by UID and frame
    reused = 0
    copies = set()
    for header in in_order:
        others = kept.setdefault((header.sop_instance_uid, header.frame), [])
        same_position = [other for other in others if _distance_mm(header, other) < SAME_POSITION_MM]
        if same_position:
            _refuse_other_content(header, same_position[0])
            copies.add(header.path)
            continue
        if any(header.path == other.path for other in others):  # of a PACS, which retrieves by UID
            raise SliceOrderError(
                f"SOPInstanceUID {header.sop_instance_uid} belongs to two slices at different positions, so one of "
                "them cannot be retrieved; give each a UID of its own"
            )
        reused += bool(others)
        others.append(header)
    warnings = []
    if copies:
        warnings.append(
            f"{len(copies)} duplicate file(s) with the SOPInstanceUID of another file; the first in path order is used"
        )
    if reused:
        warnings.append(
            f"{reused} slice(s) with the SOPInstanceUID of a slice at another position; both are used: such a series "
            "cannot be stored in a PACS"
        )
    return [header for slices in kept.values() for header in slices], warnings


def drop_resent_slices(group: Sequence[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]] | None:
    """Return one slice per position, and a warning, if all slices at one position are equal; otherwise None.

    Raises:
        PixelsUnavailableError: The decision requires pixels that are not on this machine.
        DicomError: A file cannot be read for the comparison.
    """
    positions = slices_by_position(group)
    repeats = [position for position in positions if len(position) > 1]
    if not repeats or not all(_is_alike(position[0], other) for position in repeats for other in position[1:]):
        return None
    if not all(_same_pixels(position[0], other) for position in repeats for other in position[1:]):
        return None
    copies = len(group) - len(positions)
    warning = (
        f"{copies} slice(s) sent again under another SOPInstanceUID, with equal position and pixels; the first in path "
        "order is used"
    )
    return [position[0] for position in positions], [warning]


def differing_time_attributes(group: Sequence[InstanceHeader]) -> list[str]:
    """Return the time attributes in which slices at one position differ; none if no position repeats."""
    repeats = [position for position in slices_by_position(group) if len(position) > 1]
    attributes = TIMES if group[0].shared.modality == "CT" else PET_TIMES
    return [
        name
        for name, value in attributes
        if any(len({value(header.shared) for header in position}) > 1 for position in repeats)
    ]


def slices_by_position(group: Sequence[InstanceHeader]) -> list[Position]:
    """Return the slices by position along the normal, each group in path order; none if a position is missing."""
    if not group or any(header.position_mm is None for header in group):
        return []
    normal = slice_normal(group[0].shared.orientation)
    by_path = sorted(group, key=_path_order)
    along = np.array([header.position_mm for header in by_path], dtype=np.float64) @ normal
    order = np.argsort(along, kind="stable")
    number = np.cumsum(np.diff(along[order], prepend=along[order[0]]) >= SAME_POSITION_MM)
    pairs = zip(number.tolist(), order.tolist(), strict=True)
    return [
        [by_path[i] for i in sorted(i for _, i in position)] for _, position in groupby(pairs, key=lambda pair: pair[0])
    ]


def _refuse_other_content(header: InstanceHeader, other: InstanceHeader) -> None:
    if header.path == other.path:  # a PACS may list one instance twice
        return
    fault = "" if _is_alike(header, other) else "headers that disagree"
    if not fault and not _same_pixels(header, other):
        fault = "different pixels"
    if fault:
        raise SliceOrderError(
            f"two files with one SOPInstanceUID and position, and {fault} ({other.file.name}, {header.file.name}): the "
            "intended one is unknown; remove the other"
        )


def _is_alike(a: InstanceHeader, b: InstanceHeader) -> bool:
    """Return whether two slices have equal headers, as far as the measurement is concerned."""
    return _distance_mm(a, b) < SAME_POSITION_MM and (
        a.shared is b.shared or _measured(a.shared) == _measured(b.shared)
    )


def _measured(shared: SharedHeader) -> tuple[object, ...]:
    return (
        shared.frame_of_reference_uid, shared.rows, shared.columns, shared.pixel_spacing_mm, shared.orientation,
        shared.rescale_type, shared.temporal_position, shared.trigger_time, shared.pet, shared.bed,
    )  # fmt: skip


def _distance_mm(a: InstanceHeader, b: InstanceHeader) -> float:
    if a.position_mm is None or b.position_mm is None:
        return 0.0 if a.position_mm is b.position_mm else np.inf
    return float(np.linalg.norm(np.subtract(a.position_mm, b.position_mm)))


def _same_pixels(a: InstanceHeader, b: InstanceHeader) -> bool:
    """Return whether two files have the same physical values, regardless of their encoding."""
    if not (a.file.is_file() and b.file.is_file()):
        raise PixelsUnavailableError(
            "slices share a position, and headers alone do not show whether they are copies; remove one of each from "
            "the PACS"
        )
    try:
        if a.frame == b.frame and _same_bytes(*(_state(header) for header in (a, b))):
            return True
    except OSError as error:
        raise DicomError(f"{a.file.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    return np.array_equal(read_header_slice(a).values, read_header_slice(b).values, equal_nan=True)


def _state(header: InstanceHeader) -> tuple[str, int, int]:
    """Return path, size and modification time of a file."""
    status = header.file.stat()
    return header.path, status.st_size, status.st_mtime_ns


@lru_cache(64)  # all frames of two files request the same comparison
def _same_bytes(a: tuple[str, int, int], b: tuple[str, int, int]) -> bool:
    return a[1] == b[1] and Path(a[0]).read_bytes() == Path(b[0]).read_bytes()
