"""DICOM times (DA and TM joined, or DT) as Python datetimes, and the effect of time differences on the SUV."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

ONE_DAY = timedelta(days=1)
YEARS = range(1900, 2200)  # other years are placeholders
MAX_OFFSET = timedelta(hours=15)  # of UTC; PS3.5 table 6.2-1 ends at +1400
SUV_TOLERANCE = 0.01  # relative; sources whose SUV differs by less agree


def parse_datetime(text: str) -> datetime | None:
    """Return a DICOM DT (or DA and TM joined) in microseconds, with its offset if present; None if malformed.

    The format is ISO 8601 without the T. pydicom's DT would ignore invalid parts (docs/decisions/0039).
    """
    text = text.strip().replace(":", "")
    try:
        moment = datetime.fromisoformat(f"{text[:8]}T{text[8:]}")
    except ValueError:
        return None
    is_date = text[:8].isdigit() and moment.year in YEARS  # excludes ISO 8601 weeks, such as 2024W031
    return moment if is_date and abs(moment.utcoffset() or timedelta()) < MAX_OFFSET else None


def parse_offset(offset: str) -> tzinfo | None:
    """Return the time zone of a UTC offset such as +0900; None if malformed."""
    try:
        return datetime.strptime(offset.strip(), "%z").tzinfo
    except ValueError:
        return None


def clock_difference(a: datetime, b: datetime) -> timedelta:
    """Return a - b as times of day, ignoring dates: at least -12 h, below 12 h."""
    return (a - b + ONE_DAY / 2) % ONE_DAY - ONE_DAY / 2


def suv_ratio(seconds: float, half_life_s: float) -> float:
    """Return the factor by which a time difference changes the SUV."""
    return float(2.0 ** (abs(seconds) / half_life_s)) if abs(seconds) < 1000 * half_life_s else float("inf")


def matters(difference: timedelta, half_life_s: float) -> bool:
    """Return whether a difference between two times changes the SUV by more than the tolerance."""
    return suv_ratio(difference.total_seconds(), half_life_s) > 1 + SUV_TOLERANCE
