"""When a series was acquired, to the minute: by its slices' acquisition times, else by the time of the series.

The time of a series comes second, because a console that stores it again may write its own. A time that is missing or
malformed leaves 0000 in a header; midnight itself is therefore not told from it, and counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from lib.dicom.instance_header import InstanceHeader, SharedHeader
from lib.dicom.read.header import moment_of

UNTOLD = "0000"
MINUTE_DIGITS = 12  # of YYYYMMDDhhmm


def acquired_minute(headers: Iterable[InstanceHeader]) -> str:
    """Return when the first slice of a series was acquired, YYYYMMDDhhmm; empty where that is not known."""
    shared = {id(header.shared): header.shared for header in headers}.values()
    by_slice = sorted(filter(_is_told, map(_slice_minute, shared)))
    if by_slice:
        return by_slice[0]
    return next(filter(_is_told, map(_series_minute, shared)), "")


def minutes_between(earlier: str, later: str) -> float | None:
    """Return the minutes from one YYYYMMDDhhmm to another, negative where the other is the earlier; None if unknown."""
    if not earlier or not later:
        return None
    return (_as_datetime(later) - _as_datetime(earlier)).total_seconds() / 60


def _slice_minute(shared: SharedHeader) -> str:
    if shared.bed is None:
        return shared.acquired_minute
    return moment_of(shared.bed.acquisition_date or shared.study_date, shared.bed.acquisition_time)[:MINUTE_DIGITS]


def _series_minute(shared: SharedHeader) -> str:
    if shared.pet is not None:
        return moment_of(shared.pet.series_date or shared.study_date, shared.pet.series_time)[:MINUTE_DIGITS]
    has_study = bool(moment_of(shared.study_date, ""))  # moments are of the study, the series, the acquisition
    return next(iter(shared.moments[has_study:]), "")[:MINUTE_DIGITS]


def _is_told(minute: str) -> bool:
    if len(minute) != MINUTE_DIGITS or minute.endswith(UNTOLD):
        return False
    try:
        _as_datetime(minute)
    except ValueError:
        return False
    return True


def _as_datetime(minute: str) -> datetime:
    return datetime.strptime(minute, "%Y%m%d%H%M")
