"""The time to which DecayCorrection START corrects a PET series.

A header provides it in up to three ways, which are compared:

declared  DecayCorrectionDateTime, or the private scan time of GE or Siemens.
series    SeriesDate and SeriesTime, unless a console overwrote them when it stored the series again.
computed  From the beds: AcquisitionTime + average count time - FrameReferenceTime.

Source: Vácha et al. 2026, "Comprehensive Manual for SUV Computation", reference time, options A and B; DICOM PS3.3
C.8.9.4.1.5 (FrameReferenceTime) and C.8.9.1.1.5 (DecayCorrection).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from lib.dicom.attributes.times import ONE_DAY, clock_difference, matters, parse_datetime, suv_ratio
from lib.dicom.instance_header import BedHeader, PetHeader
from lib.errors import DicomError, MissingAttributeError

CLOCK_TOLERANCE_S = 60.0  # clock differences and rounding; 0.6 % of SUV for F-18
SAME_CLOCK_S = 5.0  # rounding of times written by one program
MAX_SCAN_DURATION = timedelta(hours=6)
MAX_SCAN_S = MAX_SCAN_DURATION.total_seconds()


@dataclass(frozen=True)
class Reference:
    """The reference time, and warnings for users."""

    moment: datetime
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Bed:
    acquired: datetime
    header: BedHeader

    @property
    def duration_s(self) -> float | None:
        """ActualFrameDuration."""
        return self.header.frame_duration_s


def reference_time(pet: PetHeader, beds: tuple[BedHeader, ...], half_life_s: float) -> Reference:
    """Return the time to which START corrects.

    Args:
        pet: Attributes shared by all slices.
        beds: Attributes of the bed positions.
        half_life_s: Half-life of the nuclide.

    Raises:
        MissingAttributeError: No source provides a time.
        DicomError: The sources contradict each other, and none is clearly correct.
    """
    series = _series_time(pet, beds)
    acquired = _acquired(pet, beds, series)
    first = min(acquired, key=lambda bed: bed.acquired) if acquired else None
    declared = _declared(pet, first)
    computed, warnings = _computed(acquired, series, half_life_s)
    if series is None and declared is None and computed is None:
        raise MissingAttributeError(
            f"{pet.absence_reason('SeriesTime')} (DecayCorrection START corrects to it)", attribute="SeriesTime"
        )
    if declared is not None:
        chosen = _with_declared(declared, series, computed, half_life_s)
    elif series is None:
        assert computed is not None
        found = f"AcquisitionTime and FrameReferenceTime give {_clock(computed)}, which is used"
        chosen = Reference(computed, pet.malformed_warning("SeriesTime", found))
    elif computed is not None and _is_another_day(series, computed, half_life_s):
        chosen = _other_day(series, computed, half_life_s)
    elif _is_later(series, first):
        chosen = _stored_again(series, computed, first)
    else:
        chosen = _with_computed(series, computed, half_life_s)
    return Reference(chosen.moment, warnings + chosen.warnings)


def is_frame_duration(duration_s: float | None) -> bool:
    """Return whether ActualFrameDuration is a plausible duration of a frame."""
    return duration_s is not None and 0 < duration_s <= MAX_SCAN_S


def average_count_s(duration_s: float, half_life_s: float) -> float:
    """Return the time in a frame, in seconds, at which the activity equals the frame's mean count rate."""
    decay = math.log(2) / half_life_s * duration_s
    if decay < 1e-6:
        return duration_s / 2
    return half_life_s / math.log(2) * math.log(decay / -math.expm1(-decay))


def _series_time(pet: PetHeader, beds: tuple[BedHeader, ...]) -> datetime | None:
    """Return SeriesDate and SeriesTime; without SeriesDate, use the date of the first acquisition or of the study."""
    if not pet.series_time:
        return None
    dates = (pet.series_date, *sorted(bed.acquisition_date for bed in beds if bed.acquisition_date), pet.study_date)
    return parse_datetime(next(filter(None, dates), "") + pet.series_time)


def _acquired(pet: PetHeader, beds: tuple[BedHeader, ...], series: datetime | None) -> tuple[_Bed, ...]:
    """Return the beds with a known start; move beds after midnight with the previous day's date to the next day."""
    found = []
    for bed in beds:
        date = bed.acquisition_date or pet.series_date or pet.study_date
        moment = parse_datetime(date + bed.acquisition_time) if date and bed.acquisition_time else None
        if moment is not None:
            found.append(_Bed(_after_midnight(moment, series), bed))
    return tuple(found)


def _after_midnight(moment: datetime, series: datetime | None) -> datetime:
    if series is None or moment.date() != series.date() or series - moment < ONE_DAY / 2:
        return moment
    return moment + ONE_DAY if moment + ONE_DAY - series <= MAX_SCAN_DURATION else moment


def _declared(pet: PetHeader, first: _Bed | None) -> datetime | None:
    moment = parse_datetime(pet.decay_correction_datetime)
    if moment is None:
        return None
    moment = moment.replace(tzinfo=None)
    return None if _is_later(moment, first) else moment


def _is_later(moment: datetime, first: _Bed | None) -> bool:
    return first is not None and (moment - first.acquired).total_seconds() > CLOCK_TOLERANCE_S


def _computed(
    beds: tuple[_Bed, ...], series: datetime | None, half_life_s: float
) -> tuple[datetime | None, tuple[str, ...]]:
    """Return the time computed from the beds, None if they do not give one, and warnings."""
    usable = [
        bed
        for bed in beds
        if is_frame_duration(bed.duration_s)
        and abs(bed.header.frame_reference_time_s or 0.0) <= MAX_SCAN_S
        and bed.header.frame_reference_time_s is not None
    ]
    if not usable:
        return None, ()
    factor_warning = _check_factors(usable, half_life_s)
    if _shares_one_acquisition_time(usable, half_life_s):  # AcquisitionTime of the series: valid for the first bed only
        usable = [min(usable, key=lambda bed: bed.header.frame_reference_time_s or 0.0)]
        only = usable[0].header
        if (only.frame_reference_time_s or 0.0) > (only.frame_duration_s or 0.0) + CLOCK_TOLERANCE_S and len(beds) > 1:
            return None, factor_warning
    from_start = _counts_from_start(usable, series, half_life_s)
    moments = [_back(bed, half_life_s, from_start=from_start) for bed in usable]
    if not matters(max(moments) - min(moments), half_life_s):
        return min(moments), factor_warning
    if len({bed.header.frame_reference_time_s for bed in usable}) == 1:
        return None, factor_warning  # equal in all beds: not filled in
    return None, (
        *factor_warning,
        f"AcquisitionTime and FrameReferenceTime of its beds contradict each other: they give "
        f"{min(moments):%H:%M:%S} to {max(moments):%H:%M:%S}",
    )


def _shares_one_acquisition_time(beds: list[_Bed], half_life_s: float) -> bool:
    offsets = [bed.header.frame_reference_time_s or 0.0 for bed in beds]
    spread = timedelta(seconds=max(offsets) - min(offsets))
    return len({bed.acquired for bed in beds}) == 1 and (len(beds) == 1 or matters(spread, half_life_s))


def _back(bed: _Bed, half_life_s: float, *, from_start: bool) -> datetime:
    reference_s = bed.header.frame_reference_time_s or 0.0
    mean_s = 0.0 if from_start else average_count_s(bed.header.frame_duration_s or 0.0, half_life_s)
    return bed.acquired + timedelta(seconds=mean_s - reference_s)


def _counts_from_start(beds: list[_Bed], series: datetime | None, half_life_s: float) -> bool:
    """Return whether FrameReferenceTime refers to the start of the frame, as GE Discovery ST writes it.

    The applied decay factor decides; without one, SeriesTime decides if it matches the start.
    """
    for bed in beds:
        corrected_s = _corrected_s(bed, half_life_s)
        if corrected_s is not None:
            reference_s = bed.header.frame_reference_time_s or 0.0
            mean_s = average_count_s(bed.header.frame_duration_s or 0.0, half_life_s)
            return abs(corrected_s - reference_s - mean_s) < abs(corrected_s - reference_s)
    if series is None:
        return False
    starts = [_back(bed, half_life_s, from_start=True) for bed in beds]
    return all(abs((moment - series).total_seconds()) <= SAME_CLOCK_S for moment in starts)


def _corrected_s(bed: _Bed, half_life_s: float) -> float | None:
    """Return the seconds of decay that DecayFactor corrects; None if it is missing or 1, i.e. not filled in."""
    factor = bed.header.decay_factor
    return math.log2(factor) * half_life_s if factor is not None and factor > 1 else None


def _check_factors(beds: list[_Bed], half_life_s: float) -> tuple[str, ...]:
    """Return a warning if DecayFactor does not match the decay from the reference time to a bed's start or mean."""
    for bed in beds:
        factor, reference_s = bed.header.decay_factor, bed.header.frame_reference_time_s
        duration_s = bed.header.frame_duration_s
        if factor is None or factor < 1 or reference_s is None or duration_s is None:
            continue
        if factor == 1 and reference_s <= duration_s:
            continue  # not filled in, or the first frame, corrected to its own start
        corrected_s = math.log2(factor) * half_life_s
        excess_s = max(reference_s - corrected_s, corrected_s - reference_s - average_count_s(duration_s, half_life_s))
        if matters(timedelta(seconds=max(excess_s, 0.0)), half_life_s):
            return (
                f"DecayFactor {factor:g} corrects {corrected_s:.0f} s of decay, but FrameReferenceTime places the "
                f"slices {reference_s:.0f} s after the series start: SUV may be wrong by "
                f"{abs(1 - 1 / suv_ratio(excess_s, half_life_s)):.0%}; check against the scanner's own SUV",
            )
    return ()


def _with_declared(
    declared: datetime, series: datetime | None, computed: datetime | None, half_life_s: float
) -> Reference:
    """Return the declared time, unless both other sources agree on another one."""
    others = {"SeriesTime": series, "the time from AcquisitionTime and FrameReferenceTime": computed}
    differing = {
        source: moment
        for source, moment in others.items()
        if moment is not None and matters(moment - declared, half_life_s)
    }
    if not differing:
        return Reference(declared)
    found = " and ".join(f"{source} ({_clock(moment)})" for source, moment in differing.items())
    if series is None or computed is None or len(differing) < len(others):
        return Reference(
            declared, (f"{found} contradicts the decay correction time {_clock(declared)}, which is used",)
        )
    if not matters(series - computed, half_life_s):
        return Reference(series, (f"{found} contradict the decay correction time {_clock(declared)}; they are used",))
    raise DicomError(
        f"three different reference times: {found}, decay correction time {_clock(declared)}; correct the header"
    )


def _with_computed(series: datetime, computed: datetime | None, half_life_s: float) -> Reference:
    """Return the series' time if the beds agree with it, else the time computed from them, which is more robust."""
    if computed is None:
        return Reference(series)
    if not matters(computed - series, half_life_s):
        return Reference(series)
    return Reference(
        computed,
        (
            f"SeriesTime is {_clock(series)}, but AcquisitionTime and FrameReferenceTime give {_clock(computed)}, "
            f"which is used (SUV differs by {_percent(series, computed, half_life_s)})",
        ),
    )


def _is_another_day(series: datetime, computed: datetime, half_life_s: float) -> bool:
    return abs(computed - series) > ONE_DAY / 2 and not matters(clock_difference(computed, series), half_life_s)


def _other_day(series: datetime, computed: datetime, half_life_s: float) -> Reference:
    found = f"SeriesDate ({series:%Y-%m-%d}) and AcquisitionDate ({computed:%Y-%m-%d}) contradict each other"
    if half_life_s > ONE_DAY.total_seconds() / 2:
        raise DicomError(f"{found}, and the date affects the SUV of this nuclide; correct the header")
    return Reference(series, (f"{found}: SeriesDate is used",))


def _stored_again(series: datetime, computed: datetime | None, first: _Bed | None) -> Reference:
    """Return the reference time of a series whose SeriesTime was overwritten."""
    assert first is not None
    found = (
        f"SeriesTime {series:%H:%M:%S} is later than the first acquisition ({first.acquired:%H:%M:%S}): the series was "
        "stored again later"
    )
    if computed is not None:
        return Reference(
            computed, (f"{found}; AcquisitionTime and FrameReferenceTime give {_clock(computed)}, which is used",)
        )
    header = first.header
    if (header.frame_reference_time_s or 0.0) > (header.frame_duration_s or 0.0) + CLOCK_TOLERANCE_S:
        raise DicomError(
            f"{found}, and that bed is not the first (FrameReferenceTime {header.frame_reference_time_s:.0f} s), "
            "so the reference time is lost; send the original series"
        )
    return Reference(first.acquired, (f"{found}; the acquisition time is used as the reference time, as QIBA advises",))


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _percent(a: datetime, b: datetime, half_life_s: float) -> str:
    return f"{suv_ratio((a - b).total_seconds(), half_life_s) - 1:.1%}"
