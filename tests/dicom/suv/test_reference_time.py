"""The reference time of START: comparison of series time, beds and private attributes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.suv.reference_time import average_count_s, reference_time
from lib.errors import DicomError, MissingAttributeError

F18 = 6586.2
START = datetime(2024, 1, 15, 10, 30)
HEADER = PetHeader(study_date="20240115", series_date="20240115", series_time="103000")
MEAN_S = 89.858  # of a frame of 180 s: a little before its middle


def bed(number: int, *, start: datetime = START, count_from_start: bool = False, **changes: object) -> BedHeader:
    """Return the header of the bed that begins `number` x 180 s after the start."""
    offset_s = 180.0 * number
    acquired = start + timedelta(seconds=offset_s)
    header = BedHeader(
        f"{acquired:%Y%m%d}",
        f"{acquired:%H%M%S}",
        frame_reference_time_s=offset_s + (0.0 if count_from_start else MEAN_S),
        frame_duration_s=180.0,
        decay_factor=2 ** ((offset_s + MEAN_S) / F18),
    )
    return replace(header, **changes)  # type: ignore[arg-type]


def found(beds: tuple[BedHeader, ...], half_life_s: float = F18, **attributes: str) -> tuple[datetime, str]:
    reference = reference_time(replace(HEADER, **attributes), beds, half_life_s)
    return reference.moment, "; ".join(reference.warnings)


def test_mean_count_rate_is_before_the_middle_of_a_frame() -> None:
    assert average_count_s(180.0, F18) == pytest.approx(MEAN_S, abs=1e-3)
    assert average_count_s(6000.0, 6000.0) == pytest.approx(6000 * 0.471234, rel=1e-5)  # log2(ln 2 / (1 - 1/2))
    assert average_count_s(1.0, 1e9) == 0.5


@pytest.mark.parametrize("count_from_start", [False, True])
@pytest.mark.parametrize("with_factor", [False, True])
def test_consistent_beds_give_no_warning(count_from_start: bool, with_factor: bool) -> None:
    changes = {} if with_factor else {"decay_factor": None}
    beds = tuple(bed(number, count_from_start=count_from_start, **changes) for number in range(6))
    assert found(beds) == (START, "")
    assert found(beds[2:4]) == (START, "")  # a cropped series


def test_equal_acquisition_times_of_all_beds_are_of_the_series() -> None:
    """As in the sarcoma collection: AcquisitionTime 112011 throughout, FrameReferenceTime 0 to 1215 s."""
    beds = tuple(bed(number, acquisition_time="103000") for number in range(6))
    assert found(beds) == (START, "")


def test_missing_frame_times_give_no_warning() -> None:
    beds = tuple(bed(number, frame_reference_time_s=0.0, decay_factor=1.0) for number in range(6))
    assert found(beds) == (START, "")


def test_beds_override_series_time_with_a_warning() -> None:
    beds = tuple(bed(number) for number in range(3))
    moment, warnings = found(beds, series_time="101500")
    assert abs((moment - START).total_seconds()) < 1
    assert "SeriesTime is 2024-01-15 10:15:00, but AcquisitionTime and FrameReferenceTime give 2024-01-15" in warnings
    assert "SUV differs by 9.9%" in warnings


@pytest.mark.parametrize(("seconds", "is_conflict"), [(92, False), (98, True)])  # 1 % of F-18 is 94.5 s
def test_difference_above_one_percent_of_suv_is_a_contradiction(seconds: int, is_conflict: bool) -> None:
    series = START - timedelta(seconds=seconds)
    moment, warnings = found((bed(0), bed(1)), series_time=f"{series:%H%M%S}")
    assert (moment == series) != is_conflict
    assert ("SeriesTime is" in warnings) == is_conflict


def test_series_stored_again_uses_the_time_from_its_beds() -> None:
    moment, warnings = found((bed(2), bed(3)), series_time="132000")
    assert abs((moment - START).total_seconds()) < 1
    expected = "SeriesTime 13:20:00 is later than the first acquisition (10:36:00): the series was stored again later"
    assert expected in warnings


def test_series_stored_again_without_frame_times_uses_its_first_acquisition() -> None:
    beds = tuple(bed(number, frame_reference_time_s=None, decay_factor=None) for number in (0, 1))
    moment, warnings = found(beds, series_time="132000")
    assert moment == START
    assert "the acquisition time is used as the reference time, as QIBA advises" in warnings


def test_series_stored_again_without_its_first_bed_is_refused() -> None:
    late = bed(6, frame_duration_s=None, decay_factor=None)
    with pytest.raises(DicomError, match=r"that bed is not the first \(FrameReferenceTime 1170 s\)"):
        found((late,), series_time="132000")


def test_without_a_series_time_the_beds_give_it() -> None:
    moment, warnings = found((bed(0), bed(1)), series_time="")
    assert abs((moment - START).total_seconds()) < 1
    assert warnings == ""
    with pytest.raises(MissingAttributeError, match="SeriesTime is missing"):
        found((), series_time="")


def test_a_scan_over_midnight() -> None:
    start = datetime(2024, 1, 15, 23, 50)
    right = tuple(bed(number, start=start) for number in range(6))
    date_stays = tuple(replace(one, acquisition_date="20240115") for one in right)
    for beds in (right, date_stays):
        assert found(beds, series_time="235000") == (start, "")
        assert found(beds, series_time="235000", series_date="") == (start, "")


def test_different_dates_are_tolerated_for_short_lived_nuclides_only() -> None:
    moved = tuple(replace(bed(number), acquisition_date="20100303") for number in range(2))
    moment, warnings = found(moved)
    assert moment == START
    assert "SeriesDate (2024-01-15) and AcquisitionDate (2010-03-03) contradict each other" in warnings
    with pytest.raises(DicomError, match="the date affects the SUV of this nuclide"):
        found(moved, 282276.0)


def test_contradictory_beds_give_a_warning_and_series_time_is_used() -> None:
    beds = (bed(0), bed(1, acquisition_time="110000"))
    moment, warnings = found(beds)
    assert moment == START
    assert "AcquisitionTime and FrameReferenceTime of its beds contradict each other" in warnings


@pytest.mark.parametrize(
    ("declared", "series", "moment", "message"),
    [
        ("20240115103000", "103000", "103000", ""),
        ("20240115103000+0100", "103000", "103000", ""),
        ("20240115101500", "101500", "101500", "decay correction time 2024-01-15 10:15:00, which is used"),
        ("20240115101500", "103000", "103000", "decay correction time 2024-01-15 10:15:00; they are used"),
        ("20240115103000", "132000", "103000", "SeriesTime (2024-01-15 13:20:00) contradicts"),
        ("20240115140000", "103000", "103000", ""),  # after the scan: when it was stored
    ],
)  # fmt: skip
def test_a_declared_time_is_compared_with_both_others(declared: str, series: str, moment: str, message: str) -> None:
    beds = (bed(0), bed(1))
    reference, warnings = found(beds, decay_correction_datetime=declared, series_time=series)
    assert f"{reference:%H%M%S}" == moment
    assert (warnings == "") if not message else (message in warnings)


def test_three_different_times_are_refused() -> None:
    with pytest.raises(DicomError, match=re.escape("three different reference times")):
        found((bed(0), bed(1)), decay_correction_datetime="20240115101500", series_time="100000")


@pytest.mark.parametrize(
    ("factor", "is_suspicious"),
    [
        (2 ** (1215 / F18), False),  # corrected from the start of the bed, as in FrameReferenceTime
        (2 ** (1335 / F18), False),  # ... from its middle, as GE does
        (2 ** (120 / F18), True),  # corrected to the start of each bed: 1215 s of decay are left in
        (1.0, True),
    ],
)
def test_the_decay_factor_is_compared_with_the_frame_times(factor: float, is_suspicious: bool) -> None:
    late = BedHeader("20240115", "105015", frame_reference_time_s=1215.0, frame_duration_s=240.0, decay_factor=factor)
    _, warnings = found((late,))
    assert ("DecayFactor" in warnings) == is_suspicious


def test_decay_factor_of_one_in_the_first_frame_is_ignored() -> None:
    assert found((bed(0, decay_factor=1.0),)) == (START, "")


def test_malformed_series_time_is_named_when_the_beds_are_used() -> None:
    pet = replace(HEADER, series_time="", malformed=(("SeriesTime", "NaN"),))
    reference = reference_time(pet, (bed(0), bed(1)), F18)
    assert abs((reference.moment - START).total_seconds()) < 1
    assert "SeriesTime 'NaN' is malformed: AcquisitionTime and FrameReferenceTime give" in reference.warnings[0]
