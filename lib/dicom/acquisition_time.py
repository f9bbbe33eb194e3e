"""Acquisition time of a series to the minute, from its slices' acquisition times or else from the series time.

The series time has lower priority, because a console that stores a series again may overwrite it. A missing or
malformed time is 0000 in a header; hence midnight counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from lib.dicom.instance_header import InstanceHeader, SharedHeader, shared_headers
from lib.dicom.read.header import moment_of

UNKNOWN_TIME = "0000"
MINUTE_DIGITS = 12  # of YYYYMMDDhhmm


def acquired_minute(headers: Iterable[InstanceHeader]) -> str:
    """Return the acquisition time of the first slice of a series, YYYYMMDDhhmm; empty if unknown."""
    shared = shared_headers(headers)
    by_slice = sorted(filter(_is_known, map(_slice_minute, shared)))
    if by_slice:
        return by_slice[0]
    return next(filter(_is_known, map(_series_minute, shared)), "")


def minutes_between(earlier: str, later: str) -> float | None:
    """Return the minutes from one YYYYMMDDhhmm to another, negative if the other is earlier; None if unknown."""
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
    has_study = bool(moment_of(shared.study_date, ""))  # moments of study, series and acquisition
    return next(iter(shared.moments[has_study:]), "")[:MINUTE_DIGITS]


@lru_cache(1024)
def _is_known(minute: str) -> bool:
    if len(minute) != MINUTE_DIGITS or minute.endswith(UNKNOWN_TIME):
        return False
    try:
        _as_datetime(minute)
    except ValueError:
        return False
    return True


def _as_datetime(minute: str) -> datetime:
    return datetime.strptime(minute, "%Y%m%d%H%M")
