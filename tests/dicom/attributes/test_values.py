"""Parsing of numbers, dates and times: DICOM's formats, other unambiguous formats, and nothing else."""

from __future__ import annotations

import pytest

from lib.dicom.attributes.values import (
    DECIMAL_COMMA,
    OTHER_CLOCK,
    OTHER_DATE,
    parse_date,
    parse_datetime_text,
    parse_numbers,
    parse_offset,
    parse_time,
)

AS_IT_SHOULD_BE = ""


@pytest.mark.parametrize(
    ("text", "values", "oddity"),
    [
        ("88.7", (88.7,), AS_IT_SHOULD_BE),
        (" +88.7 ", (88.7,), AS_IT_SHOULD_BE),
        ("4.8E+08", (4.8e8,), AS_IT_SHOULD_BE),
        (".5", (0.5,), AS_IT_SHOULD_BE),
        ("88.", (88.0,), AS_IT_SHOULD_BE),
        ("1.6\\1.5\0", (1.6, 1.5), AS_IT_SHOULD_BE),
        ("88,7", (88.7,), DECIMAL_COMMA),
        ("1,6\\1,6", (1.6, 1.6), DECIMAL_COMMA),
        ("-1024,0", (-1024.0,), DECIMAL_COMMA),
        ("4,8E+08", (4.8e8,), DECIMAL_COMMA),
        ("0,123", (0.123,), DECIMAL_COMMA),  # no thousand begins with 0
        ("1024,000", (1024.0,), DECIMAL_COMMA),  # a thousands separator would appear twice
        ("1,0245", (1.0245,), DECIMAL_COMMA),
        ("1,02", (1.02,), DECIMAL_COMMA),
        ("-249,512\\-12,5\\100", (-249.512, -12.5, 100.0), DECIMAL_COMMA),  # its neighbour shows what the comma means
        ("88.7 kg", (88.7,), "its unit kg"),
        ("88,7KG", (88.7,), "its unit kg and a decimal comma"),
    ],
)
def test_unambiguous_number(text: str, values: tuple[float, ...], oddity: str) -> None:
    assert parse_numbers(text, unit="kg") == (values, oddity)


@pytest.mark.parametrize(
    "text",
    [
        "1,024", "-1,024", "12,500", "100,000", "1.234,5", "1,234.5", "1,234,567", "88,", ",", "", "7l.5", "1 2", "1_0",
        "nan", "inf", "1e999", "4.8D+08", "0x10", "13.006 mCi", "\u0663", "88.7 g", "1.6\\", "1,024\\2,048",
    ],
)  # fmt: skip
def test_ambiguous_number_is_none(text: str) -> None:
    assert parse_numbers(text, unit="kg") is None


def test_a_dose_in_another_unit_is_none() -> None:
    assert parse_numbers("481 MBq", unit="Bq") is None
    assert parse_numbers("481000000 Bq", unit="Bq") == ((4.81e8,), "its unit Bq")


@pytest.mark.parametrize(
    ("text", "date", "oddity"),
    [
        ("20240115", "20240115", AS_IT_SHOULD_BE),
        ("20240115\0 ", "20240115", AS_IT_SHOULD_BE),
        ("2024.01.15", "20240115", AS_IT_SHOULD_BE),  # ACR-NEMA, which the standard has readers understand
        ("2024-01-15", "20240115", OTHER_DATE),
        ("2024/01/15", "20240115", OTHER_DATE),
        ("20240229", "20240229", AS_IT_SHOULD_BE),
    ],
)
def test_a_date(text: str, date: str, oddity: str) -> None:
    assert parse_date(text) == (date, oddity)


@pytest.mark.parametrize(
    "text",
    [
        "15.01.2024",
        "01/15/2024",
        "20241301",
        "20240132",
        "20230229",
        "20240100",
        "00000000",
        "240115",
        "2024.01-15",
        "x",
    ],
)
def test_ambiguous_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("text", "time", "oddity"),
    [
        ("103000", "103000", AS_IT_SHOULD_BE),
        ("103000.25", "103000.25", AS_IT_SHOULD_BE),
        ("103000.1234567", "103000.123456", AS_IT_SHOULD_BE),
        ("1030", "1030", AS_IT_SHOULD_BE),
        ("10", "10", AS_IT_SHOULD_BE),
        ("10:30:00", "103000", AS_IT_SHOULD_BE),
        ("10:30:00.5", "103000.5", AS_IT_SHOULD_BE),
        ("235960", "235959", AS_IT_SHOULD_BE),
        ("9:30", "0930", OTHER_CLOCK),
        ("103000,5", "103000.5", DECIMAL_COMMA),
        ("235959\0", "235959", AS_IT_SHOULD_BE),
    ],
)
def test_a_time(text: str, time: str, oddity: str) -> None:
    assert parse_time(text) == (time, oddity)


@pytest.mark.parametrize(
    "text", ["240000", "24:00:00", "250000", "106000", "103061", "93000", "930", "1", "10:30 PM", "103000+0100", "noon"]
)
def test_invalid_time_is_none(text: str) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    ("text", "moment", "oddity"),
    [
        ("20240115103000", "20240115103000", AS_IT_SHOULD_BE),
        ("20240115103000.25+0100", "20240115103000.25+0100", AS_IT_SHOULD_BE),
        ("20240115", "20240115", AS_IT_SHOULD_BE),
        ("202401", "202401", AS_IT_SHOULD_BE),
        ("2024-0500", "2024-0500", AS_IT_SHOULD_BE),  # a year and an offset
        ("20240115 103000", "20240115103000", OTHER_CLOCK),
        ("2024-01-15T10:30:00Z", "20240115103000+0000", OTHER_CLOCK),
        ("2024-01-15 10:30:00.5-05:00", "20240115103000.5-0500", OTHER_CLOCK),
    ],
)
def test_a_date_and_time(text: str, moment: str, oddity: str) -> None:
    assert parse_datetime_text(text) == (moment, oddity)


@pytest.mark.parametrize(
    "text",
    ["20241315103000", "20240115253000", "15.01.2024 10:30", "20240115103000+1500", "202413", "now", "2024011510300"],
)
def test_invalid_date_and_time_is_none(text: str) -> None:
    assert parse_datetime_text(text) is None


def test_an_offset_from_utc() -> None:
    assert parse_offset("+0100") == ("+0100", AS_IT_SHOULD_BE)
    assert parse_offset("-05:00") == ("-0500", OTHER_CLOCK)
    assert parse_offset("+1400") == ("+1400", AS_IT_SHOULD_BE)
    assert parse_offset("+1500") is None
    assert parse_offset("CET") is None
