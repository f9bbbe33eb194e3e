"""DICOM times (DA and TM joined, or DT) as Python datetimes, and when a difference between two of them matters."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

ONE_DAY = timedelta(days=1)
YEARS = range(1900, 2200)  # others are placeholders
SUV_TOLERANCE = 0.01  # sources that differ by a smaller share of the SUV agree


def parse_datetime(text: str) -> datetime | None:
    """Return a DICOM DT (or DA and TM joined) to the microsecond, with its offset if it has one; None if malformed."""
    match = re.fullmatch(r"(\d{8})(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?([+-]\d{4})?", text.strip().replace(":", ""))
    if match is None:
        return None
    date, hour, minute, second, fraction, offset = match.groups()
    try:
        moment = datetime.strptime(f"{date}{hour}{minute or '00'}{second or '00'}", "%Y%m%d%H%M%S")
    except ValueError:
        return None
    if moment.year not in YEARS:
        return None
    moment += timedelta(microseconds=int((fraction or "0").ljust(6, "0")))
    if offset is None:
        return moment
    zone = parse_offset(offset)
    return None if zone is None else moment.replace(tzinfo=zone)


def parse_offset(offset: str) -> timezone | None:
    """Return the time zone of a UTC offset such as +0900; None if malformed."""
    match = re.fullmatch(r"([+-])(\d{2})(\d{2})", offset.strip())
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    minutes = int(match[2]) * 60 + int(match[3])
    return timezone(timedelta(minutes=-minutes if match[1] == "-" else minutes))


def clock_difference(a: datetime, b: datetime) -> timedelta:
    """Return a - b as clocks show it, whatever the dates: at least -12 h, below 12 h."""
    return (a - b + ONE_DAY / 2) % ONE_DAY - ONE_DAY / 2


def suv_ratio(seconds: float, half_life_s: float) -> float:
    """Return by which factor a difference of so many seconds changes the SUV."""
    return float(2.0 ** (abs(seconds) / half_life_s)) if abs(seconds) < 1000 * half_life_s else float("inf")


def matters(difference: timedelta, half_life_s: float) -> bool:
    """Return whether a difference between two times changes the SUV by more than the tolerance."""
    return suv_ratio(difference.total_seconds(), half_life_s) > 1 + SUV_TOLERANCE
