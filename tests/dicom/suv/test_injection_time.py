"""Injection time: time zones, midnight, shifted dates, and contradictory attributes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

import pytest

from lib.dicom.instance_header import PetHeader
from lib.dicom.suv.injection_time import injection_time
from lib.errors import DicomError, MissingAttributeError

F18, ZR89 = 6586.2, 282276.0
SCAN = datetime(2024, 1, 15, 10, 30)
INJECTED = datetime(2024, 1, 15, 9, 19, 19)
HEADER = PetHeader(injection_time="091919")


def injected(half_life_s: float = F18, scan: datetime = SCAN, **attributes: str) -> tuple[datetime, str]:
    found = injection_time(replace(HEADER, **attributes), scan, half_life_s)
    return found.moment, "; ".join(found.warnings)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"injection_datetime": "20240115091919"},
        {"injection_datetime": "20240115091919.25"},
        {"injection_datetime": "20240115092000"},  # 41 s are 0.4 % of SUV
        {"injection_datetime": "20240115091919+0900", "timezone": "+0900"},
        {"injection_datetime": "20240115001919+0000", "timezone": "+0900"},
        {"injection_datetime": "20240115081919.000000+0000"},  # UTC, and the scanner's clock is an hour ahead
        {"injection_time": "", "injection_datetime": "20240115091919"},
        {"injection_time": "", "injection_datetime": "20240115091919+0100"},
        {"injection_time": "", "private_injection_datetime": "20240115091919.00"},
        {"private_injection_datetime": "20240115091919.00"},
        {"private_injection_datetime": "20100303091919.00"},  # its date was moved, its clock agrees
        {"private_injection_datetime": "20240115000000.00"},  # a placeholder
    ],
)
def test_consistent_sources_give_no_warning(attributes: dict[str, str]) -> None:
    moment, warnings = injected(**attributes)
    assert abs((moment - INJECTED).total_seconds()) <= 41
    assert warnings == ""


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"injection_datetime": "20240115000000"}, "midnight is a placeholder, RadiopharmaceuticalStartTime is used"),
        ({"injection_datetime": "20240115081919"}, "by -1 h, as UTC and a local time do"),
        ({"injection_datetime": "20240115144919"}, "by +5.5 h, as UTC and a local time do"),
        ({"injection_datetime": "20240115091919+0000", "timezone": "+0100"}, "unless its offset is wrong"),
        ({"injection_datetime": "20100115091919"}, "is days away from the scan, as after de-identification"),
        ({"injection_datetime": "20380115091919"}, "is days away from the scan, as after de-identification"),
        (
            {"injection_datetime": "20240115083000", "private_injection_datetime": "20240115091919"},
            "GE's private administration time (0009,xx3B) agrees with RadiopharmaceuticalStartTime",
        ),
        (
            {"injection_datetime": "20240115091919", "private_injection_datetime": "20240115083000"},
            "(0009,xx3B) 08:30:00 contradicts the injection at 09:19:19",
        ),
        (
            {"injection_time": "000000", "injection_datetime": "20240115091919"},
            "RadiopharmaceuticalStartDateTime is used",
        ),
        ({"injection_time": "", "injection_datetime": "20240115091919+0000"}, "TimezoneOffsetFromUTC is missing"),
    ],
)
def test_preferred_source_is_used_with_a_warning(attributes: dict[str, str], message: str) -> None:
    moment, warnings = injected(**attributes)
    assert moment == INJECTED
    assert message in warnings


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            {"injection_datetime": "20240115083000"},
            "RadiopharmaceuticalStartDateTime 20240115083000 and RadiopharmaceuticalStartTime 091919 contradict each "
            "other (SUV differs by 37%)",
        ),
        (
            {"private_injection_datetime": "20240115083000"},
            "(0009,xx3B) 08:30:00 contradicts the injection at 09:19:19",
        ),
        (
            {"injection_time": "", "injection_datetime": "20240115000000"},
            "is exactly midnight, long before the start of the scan",
        ),
        ({"injection_time": "000000"}, "is exactly midnight, long before the start of the scan"),
        ({"injection_time": "110000"}, "RadiopharmaceuticalStartTime 110000 is after the start of the scan"),
        (
            {"injection_time": "", "injection_datetime": "20240115103001"},
            "20240115103001 is after the start of the scan",
        ),
    ],
)
def test_unresolvable_contradiction_is_refused(attributes: dict[str, str], message: str) -> None:
    with pytest.raises(DicomError, match=re.escape(message)):
        injected(**attributes)


@pytest.mark.parametrize(("seconds", "is_conflict"), [(94, False), (96, True)])  # 1 % of F-18 is 94.5 s
def test_difference_above_one_percent_of_suv_is_a_contradiction(seconds: int, is_conflict: bool) -> None:
    dated = f"20240115{9:02d}{19 + (19 + seconds) // 60:02d}{(19 + seconds) % 60:02d}"
    if is_conflict:
        with pytest.raises(DicomError, match="contradict each other"):
            injected(injection_datetime=dated)
    else:
        assert injected(injection_datetime=dated)[1] == ""


@pytest.mark.parametrize("attribute", ["injection_time", "injection_datetime"])
def test_an_injection_before_midnight(attribute: str) -> None:
    attributes = {"injection_time": "", attribute: "233000" if attribute == "injection_time" else "20240114233000"}
    assert injected(scan=datetime(2024, 1, 15, 0, 30), **attributes) == (datetime(2024, 1, 14, 23, 30), "")


def test_midnight_shortly_before_the_scan_is_accepted() -> None:
    scan = datetime(2024, 1, 15, 1, 0)
    assert injected(scan=scan, injection_time="000000")[0] == datetime(2024, 1, 15)


def test_maximum_uptake_time_is_six_half_lives() -> None:
    attributes = {"injection_time": "", "injection_datetime": "20240115000500"}
    assert injected(scan=datetime(2024, 1, 15, 11, 3), **attributes)[0] == datetime(2024, 1, 15, 0, 5)  # 10.97 h
    with pytest.raises(DicomError, match=r"is 11\.0 h before the start of the scan"):
        injected(scan=datetime(2024, 1, 15, 11, 5), **attributes)


def test_a_long_lived_nuclide_needs_a_date() -> None:
    days_before = {"injection_datetime": "20240111091919"}
    assert injected(ZR89, **days_before) == (datetime(2024, 1, 11, 9, 19, 19), "")
    assert injected(ZR89, injection_time="", **days_before)[0] == datetime(2024, 1, 11, 9, 19, 19)
    with pytest.raises(MissingAttributeError, match="StartDateTime is missing: the time of day 091919"):
        injected(ZR89)
    with pytest.raises(DicomError, match="as after de-identification, and a time of day alone"):
        injected(ZR89, injection_datetime="20100111091919")
    with pytest.raises(DicomError, match="contradict each other"):
        injected(ZR89, injection_datetime="20240111000000")  # 9.3 h of Zr-89 are 9 % of SUV


@pytest.mark.parametrize(("half_life_h", "is_dated"), [(11.9, True), (12.1, False)])
def test_time_of_day_suffices_for_half_lives_below_twelve_hours(half_life_h: float, is_dated: bool) -> None:
    if is_dated:
        assert injected(half_life_h * 3600)[0] == INJECTED
    else:
        with pytest.raises(MissingAttributeError, match="alone does not date an injection"):
            injected(half_life_h * 3600)


def test_malformed_source_is_named_when_the_other_is_used() -> None:
    pet = replace(HEADER, malformed=(("RadiopharmaceuticalStartDateTime", "yesterday"),))
    found = injection_time(pet, SCAN, F18)
    message = "RadiopharmaceuticalStartDateTime 'yesterday' is malformed: RadiopharmaceuticalStartTime is used"
    assert (found.moment, found.warnings) == (INJECTED, (message,))
