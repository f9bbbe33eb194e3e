"""The dose that was left in the patient at the moment a PET series is corrected to.

The rules are those of the DICOM PET Image Module (PS3.3 C.8.9.1.1.5): START corrects every slice to one moment, the
start of the series (QIBA, "SUV vendor-neutral pseudo-code"), ADMIN to the injection, NONE to nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from lib.dicom.header import BedHeader, PetHeader
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

DOSE_RANGE_BQ = (1e6, 1e10)  # 1 MBq (a mouse) to 10 GBq (several Rb-82 infusions); a dose outside is in another unit
BQ_PER_MBQ = 1e6
LONGEST_UPTAKE_HALF_LIVES = 6.0  # later than this less than 2 % is left, and nobody scans; F-18: 11 h
ONE_DAY = timedelta(days=1)
LONGEST_OVER_MIDNIGHT = timedelta(hours=12)  # an injection without a date is at most this old
CLOCK_TOLERANCE_S = 60.0  # clocks and rounding; changes F-18 by 0.6 %


@dataclass(frozen=True)
class Injection:
    """What was injected, and between which times it decayed.

    Attributes:
        dose_bq: RadionuclideTotalDose at the injection, Bq.
        half_life_s: RadionuclideHalfLife; not used, and may be absent, where no time passes.
        injected_at, corrected_to: Start and end of the decay that counts; equal for ADMIN.
    """

    dose_bq: float
    half_life_s: float | None
    injected_at: datetime
    corrected_to: datetime

    @property
    def decay_s(self) -> float:
        """Seconds between the two times."""
        return (self.corrected_to - self.injected_at).total_seconds()

    @property
    def remaining_dose_bq(self) -> float:
        """The dose that is left at the end: dose x 2^(-time / half-life)."""
        if self.decay_s == 0:
            return self.dose_bq
        if not self.half_life_s or self.half_life_s <= 0:
            raise MissingAttributeError("RadionuclideHalfLife is missing")
        return float(self.dose_bq * 2.0 ** (-self.decay_s / self.half_life_s))


def injection_of(pet: PetHeader, beds: Iterable[BedHeader]) -> tuple[Injection, tuple[str, ...]]:
    """Return the injection as the header tells it, and warnings for a reader of the numbers.

    Raises:
        MissingAttributeError: No dose, or no time that the correction needs.
        UnsupportedSeriesError: Not decay-corrected, or by a rule DICOM does not know.
        DicomError: Values that cannot be: a dose in no usual unit, an injection after the scan.
    """
    dose_bq, warnings = _dose(pet.dose_bq)
    if pet.decay_correction == "ADMIN":  # corrected to the injection: no time passes, whatever the clocks say
        moment = datetime.min
        return Injection(dose_bq, pet.half_life_s, moment, moment), warnings
    if not pet.decay_correction:
        raise MissingAttributeError("DecayCorrection is missing")
    if pet.decay_correction != "START":
        raise UnsupportedSeriesError(f"DecayCorrection {pet.decay_correction}, expected START or ADMIN")
    if not pet.half_life_s or pet.half_life_s <= 0:
        raise MissingAttributeError("RadionuclideHalfLife is missing")
    beds = tuple(beds)
    series_start, altered = _series_start(pet, beds)
    injected_at, undated = _injected_at(pet, series_start, pet.half_life_s)
    injection = Injection(dose_bq, pet.half_life_s, injected_at, series_start)
    return injection, warnings + altered + undated + _cross_check(pet.half_life_s, beds)


def _dose(dose_bq: float | None) -> tuple[float, tuple[str, ...]]:
    low, high = DOSE_RANGE_BQ
    if not dose_bq:
        raise MissingAttributeError("RadionuclideTotalDose is missing")
    if low <= dose_bq <= high:
        return dose_bq, ()
    if low <= dose_bq * BQ_PER_MBQ <= high:
        return dose_bq * BQ_PER_MBQ, (
            f"RadionuclideTotalDose is {dose_bq:g} Bq, too little for a PET: read as MBq; correct the header",
        )
    raise DicomError(f"RadionuclideTotalDose is {dose_bq:g} Bq, expected {low:g} to {high:g} Bq; correct the header")


def _series_start(pet: PetHeader, beds: tuple[BedHeader, ...]) -> tuple[datetime, tuple[str, ...]]:
    """Return the moment START counts to: the series time, or the first acquisition where that time was overwritten."""
    dates = (pet.series_date, *sorted(bed.acquisition_date for bed in beds if bed.acquisition_date), pet.study_date)
    start = parse_datetime(next(filter(None, dates), "") + pet.series_time) if pet.series_time else None
    if start is None:
        raise MissingAttributeError("SeriesTime is missing (DecayCorrection START counts to it)")
    acquired = [(moment, bed) for bed in beds if (moment := _acquired_at(bed)) is not None]
    if not acquired:
        return start, ()
    first, bed = min(acquired, key=lambda pair: pair[0])
    if (start - first).total_seconds() <= CLOCK_TOLERANCE_S:
        return start, ()
    said = f"SeriesTime {start:%H:%M:%S} is later than its first acquisition ({first:%H:%M:%S}): stored again later"
    if (bed.frame_reference_time_s or 0.0) > (bed.frame_duration_s or 0.0) + CLOCK_TOLERANCE_S:
        raise DicomError(
            f"{said}, and that bed is not the first (FrameReferenceTime {bed.frame_reference_time_s:.0f} s), so the "
            "time its decay was corrected to is lost; send the original series"
        )
    return first, (f"{said}; decay is counted to the acquisition, as QIBA advises",)


def _acquired_at(bed: BedHeader) -> datetime | None:
    if not bed.acquisition_date or not bed.acquisition_time:
        return None
    return parse_datetime(bed.acquisition_date + bed.acquisition_time)


def _injected_at(pet: PetHeader, series_start: datetime, half_life_s: float) -> tuple[datetime, tuple[str, ...]]:
    longest = timedelta(seconds=LONGEST_UPTAKE_HALF_LIVES * half_life_s)
    dated = _local(parse_datetime(pet.injection_datetime), pet)
    if dated is None or (pet.injection_time and _is_days_away(dated, series_start, longest)):
        moment = _undated_injection(pet.injection_time, series_start, longest)
        _refuse_impossible("RadiopharmaceuticalStartTime", pet.injection_time, moment, series_start, longest)
        altered = (
            f"RadiopharmaceuticalStartDateTime {pet.injection_datetime} is days away from the scan, as after "
            f"de-identification: the clock time {pet.injection_time} is used",
        )
        return moment, altered if dated is not None else ()
    _refuse_impossible("RadiopharmaceuticalStartDateTime", pet.injection_datetime, dated, series_start, longest)
    return dated, ()


def _is_days_away(dated: datetime, series_start: datetime, longest: timedelta) -> bool:
    """Return whether a date cannot be the injection's; hours off on the same day are a wrong clock, not this."""
    return dated - series_start > ONE_DAY or series_start - dated > max(longest, ONE_DAY)


def _undated_injection(clock: str, series_start: datetime, longest: timedelta) -> datetime:
    """Return an injection known by its time of day: the day of the scan, or the day before if that alone can be."""
    today = parse_datetime(f"{series_start:%Y%m%d}{clock}") if clock else None
    if today is None:
        raise MissingAttributeError("RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are missing")
    if today > series_start and series_start - (today - ONE_DAY) <= min(longest, LONGEST_OVER_MIDNIGHT):
        return today - ONE_DAY
    return today


def _refuse_impossible(name: str, said: str, moment: datetime, series_start: datetime, longest: timedelta) -> None:
    if moment > series_start:
        raise DicomError(
            f"{name} {said} lies after the scan began ({series_start:%Y-%m-%d %H:%M:%S}): a wrong clock; "
            "correct the header"
        )
    if series_start - moment > longest:
        raise DicomError(
            f"{name} {said} lies {(series_start - moment).total_seconds() / 3600:.1f} h before the scan began "
            f"({series_start:%Y-%m-%d %H:%M:%S}), more than {LONGEST_UPTAKE_HALF_LIVES:g} half-lives; "
            "correct the header"
        )


def _cross_check(half_life_s: float, beds: tuple[BedHeader, ...]) -> tuple[str, ...]:
    """Warn where the applied factor is not that of a decay from the series start to some moment of the bed."""
    for bed in beds:
        reference_s, factor = bed.frame_reference_time_s, bed.decay_factor
        if reference_s is None or factor is None or factor < 1:
            continue
        corrected_s = math.log2(factor) * half_life_s
        latest_s = reference_s + (bed.frame_duration_s or 0.0) + CLOCK_TOLERANCE_S
        if not reference_s - CLOCK_TOLERANCE_S <= corrected_s <= latest_s:
            return (
                f"DecayFactor {factor:g} undoes {corrected_s:.0f} s of decay, but FrameReferenceTime puts the slices "
                f"{reference_s:.0f} s after the series start: SUV may be wrong by "
                f"{abs(2 ** ((reference_s - corrected_s) / half_life_s) - 1):.0%}; check against the scanner's own SUV",
            )
    return ()


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
    moment += timedelta(microseconds=int((fraction or "0").ljust(6, "0")))
    return moment if offset is None else moment.replace(tzinfo=_zone(offset))


def _local(moment: datetime | None, pet: PetHeader) -> datetime | None:
    """Return the moment on the series' clock, without an offset."""
    if moment is None or moment.tzinfo is None:
        return moment
    if re.fullmatch(r"[+-]\d{4}", pet.timezone):
        moment = moment.astimezone(_zone(pet.timezone))
    return moment.replace(tzinfo=None)


def _zone(offset: str) -> timezone:
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
