"""When the radiopharmaceutical was injected, on the clock of the scanner.

A header says it up to three times: RadiopharmaceuticalStartTime (a clock time), RadiopharmaceuticalStartDateTime and
GE's private administration time. They are compared: time zones, midnight as a placeholder, dates that de-identification
moved. What cannot be reconciled is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lib.dicom.attributes.times import ONE_DAY, clock_difference, matters, parse_datetime, parse_offset, suv_ratio
from lib.dicom.instance_header import PetHeader
from lib.errors import DicomError, MissingAttributeError

MAX_UPTAKE_HALF_LIVES = 6.0  # later than this less than 2 % is left, and nobody scans; F-18: 11 h
MAX_UPTAKE_OVER_MIDNIGHT = timedelta(hours=12)  # an injection without a date is at most this old
CLOCK_DATES_BELOW_S = 12 * 3600.0  # nuclides of a longer half-life are scanned up to days after the injection
MAX_UPTAKE_AT_MIDNIGHT = timedelta(
    hours=3
)  # midnight sharp longer ago is no injection, but a time that was not filled in
QUARTER_HOUR_S = 900.0  # time zones differ by whole quarters
ROUNDING_S = 2.0
MAX_UTC_OFFSET = timedelta(hours=14)
TIME, DATETIME = "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime"
PRIVATE = "GE's private administration time (0009,xx3B)"


@dataclass(frozen=True)
class InjectionTime:
    """The moment on the series' clock, and what a reader of the numbers should know."""

    moment: datetime
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """What every rule needs: the header, the reference time, the half-life, and the longest time between the two."""

    pet: PetHeader
    reference: datetime
    half_life_s: float

    @property
    def longest(self) -> timedelta:
        """How long before the scan an injection can have been."""
        return timedelta(seconds=MAX_UPTAKE_HALF_LIVES * self.half_life_s)

    @property
    def clock_is_enough(self) -> bool:
        """Whether a time of day dates the injection."""
        return self.half_life_s < CLOCK_DATES_BELOW_S

    def percent(self, difference: timedelta) -> str:
        """Return what a difference between two times is worth in SUV, for people."""
        ratio = suv_ratio(difference.total_seconds(), self.half_life_s)
        return f"{ratio - 1:.0%}" if ratio < 100 else "more than 100 times"


def injection_time(pet: PetHeader, reference: datetime, half_life_s: float) -> InjectionTime:
    """Return when the radiopharmaceutical was injected.

    Args:
        pet: The header.
        reference: The moment the series is corrected to, on its own clock.
        half_life_s: Of the nuclide.

    Raises:
        MissingAttributeError: No time; or a clock time alone, for a nuclide that is scanned days after the injection.
        DicomError: Times that contradict one another, or that cannot be.
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
    """Return the moment without an offset, and whether it is surely on the series' clock."""
    if dated is None or dated.tzinfo is None:
        return dated, dated is not None
    zone = parse_offset(pet.timezone)
    if zone is None:
        return dated.replace(tzinfo=None), False
    return dated.astimezone(zone).replace(tzinfo=None), True


def _both(case: _Case, local: datetime, clock: datetime, dated: datetime | None, *, zone_known: bool) -> InjectionTime:
    apart = clock_difference(local, clock)
    if not matters(apart, case.half_life_s):
        return _agreed(case, local, clock)
    said = f"{DATETIME} {case.pet.injection_datetime} and {TIME} {case.pet.injection_time} contradict each other"
    worth = f"SUV differs by {case.percent(apart)}"
    if not case.clock_is_enough:
        raise DicomError(f"{said} ({worth}); correct the header")
    if _is_midnight(local) and not _is_midnight(clock):
        return InjectionTime(_place(case, clock), (f"{said} ({worth}): midnight is a placeholder, {TIME} is used",))
    if _is_midnight(clock):
        return InjectionTime(_checked(case, DATETIME, local), (f"{said} ({worth}): {DATETIME} is used",))
    wall = dated.replace(tzinfo=None) if dated is not None else local
    if not matters(clock_difference(wall, clock), case.half_life_s):
        return InjectionTime(_place(case, clock), (f"{said} unless its offset is wrong ({worth}): {TIME} is used",))
    if _is_zone_shift(apart) and not (dated is not None and dated.tzinfo is not None and zone_known):
        if dated is not None and dated.tzinfo is not None:
            return InjectionTime(_place(case, clock))  # one moment on two clocks: the offset says so
        whole = f"by {apart.total_seconds() / 3600:+g} h, as UTC and a local time do"
        return InjectionTime(_place(case, clock), (f"{said} {whole} ({worth}): {TIME} is used",))
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is not None and not matters(clock_difference(private, clock), case.half_life_s):
        return InjectionTime(_place(case, clock), (f"{said} ({worth}): {PRIVATE} agrees with {TIME}",))
    if private is not None and not matters(clock_difference(private, local), case.half_life_s):
        return InjectionTime(_checked(case, DATETIME, local), (f"{said} ({worth}): {PRIVATE} agrees with {DATETIME}",))
    raise DicomError(f"{said} ({worth}); correct the header")


def _agreed(case: _Case, local: datetime, clock: datetime) -> InjectionTime:
    """Return the moment of two times that show the same clock; the date may have been moved by de-identification."""
    if not _is_days_away(case, local):
        return InjectionTime(_checked(case, DATETIME, local))
    said = f"{DATETIME} {case.pet.injection_datetime} is days away from the scan, as after de-identification"
    if not case.clock_is_enough:
        raise DicomError(
            f"{said}, and a clock time alone does not date an injection of a nuclide with a half-life of "
            f"{case.half_life_s / 3600:.0f} h; correct the header"
        )
    return InjectionTime(_place(case, clock), (f"{said}: the clock time {case.pet.injection_time} is used",))


def _dated_only(case: _Case, local: datetime, dated: datetime | None, *, zone_known: bool) -> InjectionTime:
    moment = _checked(case, DATETIME, local)
    is_utc = dated is not None and dated.utcoffset() == timedelta(0)
    if is_utc and not zone_known:
        return InjectionTime(
            moment,
            (
                f"{DATETIME} {case.pet.injection_datetime} is in UTC and TimezoneOffsetFromUTC is missing: it is taken "
                "for the scanner's clock; SUV is wrong where that shows another zone",
            ),
        )
    return InjectionTime(moment)


def _private_only(case: _Case) -> InjectionTime:
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is None:
        raise MissingAttributeError(f"{case.pet.absence_reason(DATETIME)}, and {case.pet.absence_reason(TIME)}")
    return InjectionTime(_checked(case, PRIVATE, private.replace(tzinfo=None)))


def _compared_with_private(case: _Case, chosen: InjectionTime, *, is_confirmed: bool) -> InjectionTime:
    private = parse_datetime(case.pet.private_injection_datetime)
    if private is None or _is_midnight(private):
        return chosen
    apart = clock_difference(private.replace(tzinfo=None), chosen.moment)
    if not matters(apart, case.half_life_s) or any(PRIVATE in warning for warning in chosen.warnings):
        return chosen
    said = f"{PRIVATE} {private:%H:%M:%S} contradicts the injection at {chosen.moment:%H:%M:%S}"
    worth = f"SUV differs by {case.percent(apart)}"
    if not is_confirmed and not _is_zone_shift(apart):
        raise DicomError(f"{said} ({worth}); correct the header")
    return InjectionTime(chosen.moment, (*chosen.warnings, f"{said} ({worth}); the standard attributes are used"))


def _place(case: _Case, clock: datetime) -> datetime:
    """Return an injection known by its time of day: on the day of the scan, or the day before if that alone can be."""
    if not case.clock_is_enough:
        raise MissingAttributeError(
            f"{case.pet.absence_reason(DATETIME)}: the clock time {case.pet.injection_time} alone does not date an injection "
            f"of a nuclide with a half-life of {case.half_life_s / 3600:.0f} h, which is scanned up to days later"
        )
    reference = case.reference
    if clock > reference and reference - (clock - ONE_DAY) <= min(case.longest, MAX_UPTAKE_OVER_MIDNIGHT):
        clock -= ONE_DAY
    return _checked(case, TIME, clock)


def _checked(case: _Case, name: str, moment: datetime) -> datetime:
    """Return a moment at which the injection can have been.

    Raises:
        DicomError: After the scan began, too long before it, or midnight sharp as a placeholder.
    """
    reference = case.reference
    said = {TIME: case.pet.injection_time, DATETIME: case.pet.injection_datetime}.get(
        name, f"{moment:%Y-%m-%d %H:%M:%S}"
    )
    began = f"{reference:%Y-%m-%d %H:%M:%S}"
    if moment > reference:
        raise DicomError(f"{name} {said} lies after the scan began ({began}): a wrong clock; correct the header")
    if reference - moment > case.longest:
        hours = (reference - moment).total_seconds() / 3600
        raise DicomError(
            f"{name} {said} lies {hours:.1f} h before the scan began ({began}), more than "
            f"{MAX_UPTAKE_HALF_LIVES:g} half-lives; correct the header"
        )
    if _is_midnight(moment) and reference - moment > MAX_UPTAKE_AT_MIDNIGHT:
        raise DicomError(
            f"{name} {said} is midnight sharp, long before the scan began ({began}): a placeholder, not the "
            "time of the injection; correct the header"
        )
    return moment


def _is_days_away(case: _Case, dated: datetime) -> bool:
    """Return whether a date cannot be the injection's; hours off on the same day are a wrong clock, not this."""
    return dated - case.reference > ONE_DAY or case.reference - dated > max(case.longest, ONE_DAY)


def _is_midnight(moment: datetime) -> bool:
    return (moment.hour, moment.minute, moment.second) == (0, 0, 0)


def _is_zone_shift(apart: timedelta) -> bool:
    seconds = abs(apart.total_seconds())
    off = abs(seconds - round(seconds / QUARTER_HOUR_S) * QUARTER_HOUR_S)
    return off <= ROUNDING_S and seconds >= QUARTER_HOUR_S and abs(apart) <= MAX_UTC_OFFSET
