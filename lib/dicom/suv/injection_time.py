"""Injection time of the radiopharmaceutical, on the scanner's clock.

A header has it up to three times: RadiopharmaceuticalStartTime (a time of day), RadiopharmaceuticalStartDateTime and
GE's private administration time. They are compared, with regard to time zones, midnight as a placeholder, and dates
shifted by de-identification. Contradictions that cannot be resolved raise an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lib.dicom.attributes.times import ONE_DAY, clock_difference, matters, parse_datetime, parse_offset, suv_ratio
from lib.dicom.instance_header import PetHeader
from lib.errors import DicomError, MissingAttributeError

MAX_UPTAKE_HALF_LIVES = 6.0  # then less than 2 % of the dose remains; F-18: 11 h
MAX_UPTAKE_OVER_MIDNIGHT = timedelta(hours=12)  # of an injection without a date
CLOCK_DATES_BELOW_S = 12 * 3600.0  # nuclides with a longer half-life are scanned up to days after the injection
MAX_UPTAKE_AT_MIDNIGHT = timedelta(hours=3)  # exactly midnight, longer ago than this, is a placeholder
QUARTER_HOUR_S = 900.0  # time zones differ by multiples of it
ROUNDING_S = 2.0
MAX_UTC_OFFSET = timedelta(hours=14)
TIME, DATETIME = "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"
PRIVATE = "GE's private administration time (0009,xx3B)"


@dataclass(frozen=True)
class InjectionTime:
    """The injection time on the series' clock, and warnings for users."""

    moment: datetime
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """The input of all rules: header, reference time and half-life."""

    pet: PetHeader
    reference: datetime
    half_life_s: float

    @property
    def max_uptake(self) -> timedelta:
        """The longest plausible time between injection and scan."""
        return timedelta(seconds=MAX_UPTAKE_HALF_LIVES * self.half_life_s)

    @property
    def clock_is_enough(self) -> bool:
        """Whether a time of day determines the date of the injection."""
        return self.half_life_s < CLOCK_DATES_BELOW_S

    def percent(self, difference: timedelta) -> str:
        """Return the relative effect of a time difference on the SUV, as text."""
        ratio = suv_ratio(difference.total_seconds(), self.half_life_s)
        return f"{ratio - 1:.0%}" if ratio < 100 else "more than 100 times"


def injection_time(pet: PetHeader, reference: datetime, half_life_s: float) -> InjectionTime:
    """Return when the radiopharmaceutical was injected.

    Args:
        pet: The header.
        reference: The time to which the series is corrected, on its own clock.
        half_life_s: Half-life of the nuclide.

    Raises:
        MissingAttributeError: No injection time, or only a time of day for a nuclide scanned days after the injection.
        DicomError: Times contradict each other or are not plausible.
    """
    case = _Case(pet, reference, half_life_s)
    dated = parse_datetime(pet.injection_datetime)
    local, zone_known = _on_series_clock(dated, pet)
    clock = parse_datetime(f"{reference:%Y%m%d}{pet.injection_time}") if pet.injection_time else None
    if local is not None and clock is not None:
        chosen = _both(case, local, clock, dated, zone_known=zone_known)
    elif local is not None:
        chosen = _dated_only(case, local, dated, zone_known=zone_known)
        chosen = InjectionTime(chosen.moment, chosen.warnings + pet.malformed_warning(TIME, f"{DATETIME} is used"))
    elif clock is not None:
        chosen = InjectionTime(_place(case, clock), pet.malformed_warning(DATETIME, f"{TIME} is used"))
    else:
        chosen = _private_only(case)
    return _compared_with_private(case, chosen, is_confirmed=local is not None and clock is not None)


def _on_series_clock(dated: datetime | None, pet: PetHeader) -> tuple[datetime | None, bool]:
    """Return the time without an offset, and whether it is certainly on the series' clock."""
    if dated is None or dated.tzinfo is None:
        return dated, dated is not None
    zone = parse_offset(pet.timezone)
    if zone is None:
        return dated.replace(tzinfo=None), False
    return dated.astimezone(zone).replace(tzinfo=None), True


def _both(case: _Case, local: datetime, clock: datetime, dated: datetime | None, *, zone_known: bool) -> InjectionTime:
    difference = clock_difference(local, clock)
    if not matters(difference, case.half_life_s):
        return _agreed(case, local, clock)
    conflict = f"{DATETIME} {case.pet.injection_datetime} and {TIME} {case.pet.injection_time} contradict each other"
    effect = f"SUV differs by {case.percent(difference)}"
    if not case.clock_is_enough:
        raise DicomError(f"{conflict} ({effect}); correct the header")
    if _is_midnight(local) and not _is_midnight(clock):
        return InjectionTime(
            _place(case, clock), (f"{conflict} ({effect}): midnight is a placeholder, {TIME} is used",)
        )
    if _is_midnight(clock):
        return InjectionTime(_checked(case, DATETIME, local), (f"{conflict} ({effect}): {DATETIME} is used",))
    wall = dated.replace(tzinfo=None) if dated is not None else local
    if not matters(clock_difference(wall, clock), case.half_life_s):
        return InjectionTime(
            _place(case, clock), (f"{conflict} unless its offset is wrong ({effect}): {TIME} is used",)
        )
    if _is_zone_shift(difference) and not (dated is not None and dated.tzinfo is not None and zone_known):
        if dated is not None and dated.tzinfo is not None:
            return InjectionTime(_place(case, clock))  # the same instant on two clocks, by the offset
        shift = f"by {difference.total_seconds() / 3600:+g} h, as UTC and a local time do"
        return InjectionTime(_place(case, clock), (f"{conflict} {shift} ({effect}): {TIME} is used",))
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is not None and not matters(clock_difference(private, clock), case.half_life_s):
        return InjectionTime(_place(case, clock), (f"{conflict} ({effect}): {PRIVATE} agrees with {TIME}",))
    if private is not None and not matters(clock_difference(private, local), case.half_life_s):
        return InjectionTime(
            _checked(case, DATETIME, local), (f"{conflict} ({effect}): {PRIVATE} agrees with {DATETIME}",)
        )
    raise DicomError(f"{conflict} ({effect}); correct the header")


def _agreed(case: _Case, local: datetime, clock: datetime) -> InjectionTime:
    """Return the injection time of two equal times of day; the date may have been shifted by de-identification."""
    if not _is_days_away(case, local):
        return InjectionTime(_checked(case, DATETIME, local))
    conflict = f"{DATETIME} {case.pet.injection_datetime} is days away from the scan, as after de-identification"
    if not case.clock_is_enough:
        raise DicomError(
            f"{conflict}, and a time of day alone does not date an injection of a nuclide with a half-life of "
            f"{case.half_life_s / 3600:.0f} h; correct the header"
        )
    return InjectionTime(_place(case, clock), (f"{conflict}: the time of day {case.pet.injection_time} is used",))


def _dated_only(case: _Case, local: datetime, dated: datetime | None, *, zone_known: bool) -> InjectionTime:
    moment = _checked(case, DATETIME, local)
    is_utc = dated is not None and dated.utcoffset() == timedelta(0)
    if is_utc and not zone_known:
        return InjectionTime(
            moment,
            (
                f"{DATETIME} {case.pet.injection_datetime} is in UTC and TimezoneOffsetFromUTC is missing: it is "
                "assumed to be on the scanner's clock; SUV is wrong if that has another time zone",
            ),
        )
    return InjectionTime(moment)


def _private_only(case: _Case) -> InjectionTime:
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is None:
        raise MissingAttributeError(
            f"{case.pet.absence_reason(DATETIME)}, and {case.pet.absence_reason(TIME)}", attribute=DATETIME
        )
    return InjectionTime(_checked(case, PRIVATE, private.replace(tzinfo=None)))


def _compared_with_private(case: _Case, chosen: InjectionTime, *, is_confirmed: bool) -> InjectionTime:
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is None or _is_midnight(private):
        return chosen
    difference = clock_difference(private.replace(tzinfo=None), chosen.moment)
    if not matters(difference, case.half_life_s) or any(PRIVATE in warning for warning in chosen.warnings):
        return chosen
    conflict = f"{PRIVATE} {private:%H:%M:%S} contradicts the injection at {chosen.moment:%H:%M:%S}"
    effect = f"SUV differs by {case.percent(difference)}"
    if not is_confirmed and not _is_zone_shift(difference):
        raise DicomError(f"{conflict} ({effect}); correct the header")
    return InjectionTime(chosen.moment, (*chosen.warnings, f"{conflict} ({effect}); the standard attributes are used"))


def _place(case: _Case, clock: datetime) -> datetime:
    """Return the injection time for a time of day: on the day of the scan, or the day before if only that fits."""
    if not case.clock_is_enough:
        raise MissingAttributeError(
            f"{case.pet.absence_reason(DATETIME)}: the time of day {case.pet.injection_time} alone does not date "
            f"an injection of a nuclide with a half-life of {case.half_life_s / 3600:.0f} h, scanned up to days later",
            attribute=DATETIME,
        )
    reference = case.reference
    if clock > reference and reference - (clock - ONE_DAY) <= min(case.max_uptake, MAX_UPTAKE_OVER_MIDNIGHT):
        clock -= ONE_DAY
    return _checked(case, TIME, clock)


def _checked(case: _Case, name: str, moment: datetime) -> datetime:
    """Return a time if it is plausible as the injection.

    Raises:
        DicomError: The time is after the start of the scan, too long before it, or midnight as a placeholder.
    """
    reference = case.reference
    value = {TIME: case.pet.injection_time, DATETIME: case.pet.injection_datetime}.get(
        name, f"{moment:%Y-%m-%d %H:%M:%S}"
    )
    start = f"{reference:%Y-%m-%d %H:%M:%S}"
    if moment > reference:
        raise DicomError(f"{name} {value} is after the start of the scan ({start}): a wrong clock; correct the header")
    if reference - moment > case.max_uptake:
        hours = (reference - moment).total_seconds() / 3600
        raise DicomError(
            f"{name} {value} is {hours:.1f} h before the start of the scan ({start}), more than "
            f"{MAX_UPTAKE_HALF_LIVES:g} half-lives; correct the header"
        )
    if _is_midnight(moment) and reference - moment > MAX_UPTAKE_AT_MIDNIGHT:
        raise DicomError(
            f"{name} {value} is exactly midnight, long before the start of the scan ({start}): a placeholder, not the "
            "time of the injection; correct the header"
        )
    return moment


def _is_days_away(case: _Case, dated: datetime) -> bool:
    """Return whether a date is not plausible; a difference of hours on the same day is a wrong clock instead."""
    return dated - case.reference > ONE_DAY or case.reference - dated > max(case.max_uptake, ONE_DAY)


def _is_midnight(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second) == (0, 0, 0)


def _is_zone_shift(difference: timedelta) -> bool:
    seconds = abs(difference.total_seconds())
    off = abs(seconds - round(seconds / QUARTER_HOUR_S) * QUARTER_HOUR_S)
    return off <= ROUNDING_S and seconds >= QUARTER_HOUR_S and abs(difference) <= MAX_UTC_OFFSET
