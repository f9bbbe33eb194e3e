"""Slices that lie where another one lies, or bear another one's UID: copies of it, or other measurements.

Copies are told by their content: the same place, the same header as far as it says what was measured, the same physical
numbers. Pixels are read only of slices that repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np

from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.dicom.read.frame_pixels import read_header_slice
from lib.dicom.read.slice_order import SAME_POSITION_MM, slice_normal
from lib.errors import DicomError, SliceOrderError

Place = list[InstanceHeader]
TIMES: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("TemporalPositionIdentifier", lambda shared: shared.temporal_position),
    ("TriggerTime", lambda shared: shared.trigger_time),
)
PET_TIMES: tuple[tuple[str, Callable[[SharedHeader], object]], ...] = (
    ("AcquisitionNumber", lambda shared: shared.acquisition_number),
    ("FrameReferenceTime", lambda shared: shared.bed and shared.bed.frame_reference_time_s),
    ("AcquisitionTime", lambda shared: shared.bed and (shared.bed.acquisition_date, shared.bed.acquisition_time)),
    *TIMES,
)  # a CT's AcquisitionNumber and time count scans, which may lie at one place; a PET's count frames


class PixelsUnavailableError(DicomError):
    """Whether slices are copies cannot be told: their files are not on this machine."""


def drop_duplicate_files(headers: Iterable[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]]:
    """Return one file of each slice that came several times under one SOPInstanceUID, and warnings.

    The first in path order is kept, so that every scan keeps the same one. Different slices under one UID stay.

    Raises:
        SliceOrderError: Two files with one UID and place, and different content.
        DicomError: A file that must be compared cannot be read.
    """
    kept: dict[tuple[str, int], Place] = {}  # by UID and frame
    reused = 0
    copies = set()
    for header in sorted(headers, key=_path_order):
        others = kept.setdefault((header.sop_instance_uid, header.frame), [])
        same_place = [other for other in others if _distance_mm(header, other) < SAME_POSITION_MM]
        if same_place:
            _refuse_other_content(header, same_place[0])
            copies.add(header.path)
            continue
        if any(header.path == other.path for other in others):  # of a PACS, which is asked by UID
            raise SliceOrderError(
                f"SOPInstanceUID {header.sop_instance_uid} names two slices at different places; one of them cannot be "
                "asked for: give each a UID of its own"
            )
        reused += bool(others)
        others.append(header)
    warnings = []
    if copies:
        warnings.append(
            f"{len(copies)} duplicate file(s) with a SOPInstanceUID that another file has; the first in path order is "
            "used"
        )
    if reused:
        warnings.append(
            f"{reused} slice(s) with a SOPInstanceUID that a slice at another place has; both are used: such a series "
            "cannot be stored in a PACS"
        )
    return [header for slices in kept.values() for header in slices], warnings


def drop_resent_slices(group: Sequence[InstanceHeader]) -> tuple[list[InstanceHeader], list[str]] | None:
    """Return one slice a place, and a warning, where all that lie at one place are the same; None where they are not.

    Raises:
        PixelsNotAtHandError: Only their pixels, which are not here, could tell.
        DicomError: A file that must be compared cannot be read.
    """
    places = slices_by_position(group)
    repeats = [place for place in places if len(place) > 1]
    if not repeats or not all(_is_alike(place[0], other) for place in repeats for other in place[1:]):
        return None
    if not all(_same_pixels(place[0], other) for place in repeats for other in place[1:]):
        return None
    copies = len(group) - len(places)
    warning = (
        f"{copies} slice(s) sent again under another SOPInstanceUID, with the same place and pixels; the first in path "
        "order is used"
    )
    return [place[0] for place in places], [warning]


def differing_time_attributes(group: Sequence[InstanceHeader]) -> list[str]:
    """Return the attributes of time by which slices at one place differ; none where no place repeats."""
    repeats = [place for place in slices_by_position(group) if len(place) > 1]
    attributes = TIMES if group[0].shared.modality == "CT" else PET_TIMES
    return [
        name
        for name, value in attributes
        if any(len({value(header.shared) for header in place}) > 1 for place in repeats)
    ]


def slices_by_position(group: Sequence[InstanceHeader]) -> list[Place]:
    """Return the slices by place along the normal, those of one place in path order; none where one has no place."""
    if not group or any(header.position_mm is None for header in group):
        return []
    normal = slice_normal(group[0].shared.orientation)
    by_path = sorted(group, key=_path_order)
    along = np.array([header.position_mm for header in by_path], dtype=np.float64) @ normal
    order = np.argsort(along, kind="stable")
    number = np.cumsum(np.diff(along[order], prepend=along[order[0]]) >= SAME_POSITION_MM)
    pairs = zip(number.tolist(), order.tolist(), strict=True)
    return [[by_path[i] for i in sorted(i for _, i in place)] for _, place in groupby(pairs, key=lambda pair: pair[0])]


def _refuse_other_content(header: InstanceHeader, other: InstanceHeader) -> None:
    if header.path == other.path:  # a PACS that lists one instance twice
        return
    fault = "" if _is_alike(header, other) else "headers that disagree"
    if not fault and not _same_pixels(header, other):
        fault = "different pixels"
    if fault:
        raise SliceOrderError(
            f"two files with one SOPInstanceUID and place, and {fault} ({other.file.name}, {header.file.name}): which "
            "one is meant cannot be told; remove the wrong one"
        )


def _is_alike(a: InstanceHeader, b: InstanceHeader) -> bool:
    """Return whether two slices can be one and the same as far as their headers say."""
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
    """Return whether two files hold the same physical numbers, however they are encoded."""
    if not (a.file.is_file() and b.file.is_file()):
        raise PixelsUnavailableError(
            "slices lie where another one lies, and whether they are copies of each other cannot be told from a "
            "header: remove one of each from the PACS"
        )
    try:
        if a.frame == b.frame and _same_bytes(*(_state(header) for header in (a, b))):
            return True
    except OSError as error:
        raise DicomError(f"{a.file.name}: cannot be opened ({error.strerror}); scan the folder again") from error
    return np.array_equal(read_header_slice(a).values, read_header_slice(b).values, equal_nan=True)


def _path_order(header: InstanceHeader) -> tuple[str, int]:
    return header.path, header.frame


def _state(header: InstanceHeader) -> tuple[str, int, int]:
    """Return a file, with what another content of it would change."""
    status = header.file.stat()
    return header.path, status.st_size, status.st_mtime_ns


@lru_cache(64)  # all frames of two files ask for the same
def _same_bytes(a: tuple[str, int, int], b: tuple[str, int, int]) -> bool:
    return a[1] == b[1] and Path(a[0]).read_bytes() == Path(b[0]).read_bytes()
