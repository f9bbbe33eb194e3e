"""SUVbw = activity x weight / dose left: worked by hand, one case for each way a header can mislead."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from lib.dicom.decay import Injection, injection_of, parse_datetime
from lib.dicom.header import BedHeader, PetHeader
from lib.dicom.suv import activity_scale, suv_body_weight, suv_scale, suv_state
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

# 400 MBq at 10:00, half-life 6000 s, series at 11:40: 6000 s later, 200 MBq are left. 50 kg.
# SUV of 1 Bq/mL: 50 000 g / 2e8 Bq = 2.5e-4.
PET_HEADER = PetHeader(
    units="BQML",
    decay_correction="START",
    corrected_image=("ATTN",),
    series_date="20200102",
    series_time="114000",
    weight_kg=50.0,
    dose_bq=4e8,
    half_life_s=6000.0,
    injection_time="100000",
)


def suv_per_bqml(beds: tuple[BedHeader, ...] = (), **changes: Any) -> float:
    return suv_scale(replace(PET_HEADER, **changes), beds).factor


def test_the_formula() -> None:
    injection = Injection(4e8, 6000.0, datetime(2020, 1, 2, 10), datetime(2020, 1, 2, 11, 40))
    activity = np.full((1, 2, 2), 4000, np.float32)
    suv = suv_body_weight(activity, injection, weight_kg=50.0)
    assert suv.dtype == np.float32
    assert suv == pytest.approx(np.ones((1, 2, 2)))


def test_start_decays_from_the_injection_to_the_series_time() -> None:
    assert suv_per_bqml() == pytest.approx(2.5e-4)


def test_start_does_not_decay_to_the_acquisition_of_a_later_bed() -> None:
    later_bed = BedHeader("20200102", "120000", frame_reference_time_s=1200, frame_duration_s=120)
    assert suv_per_bqml((later_bed,)) == pytest.approx(2.5e-4)


def test_admin_does_not_decay_and_needs_no_clock() -> None:
    changes = {"decay_correction": "ADMIN", "injection_time": "", "series_time": "", "half_life_s": None}
    assert suv_per_bqml(**changes) == pytest.approx(1.25e-4)  # 50 000 / 4e8


@pytest.mark.parametrize("suv_type", ["", "BW"])
def test_gml_is_suv_already_and_is_never_converted_twice(suv_type: str) -> None:
    scale = suv_scale(replace(PET_HEADER, units="GML", suv_type=suv_type), ())
    assert (scale.factor, scale.source) == (1.0, "SUVbw (GML)")


@pytest.mark.parametrize("suv_type", ["LBM", "BSA", "IBW", "LBMJANMA"])
def test_another_suv_type_is_refused_by_name(suv_type: str) -> None:
    with pytest.raises(UnsupportedSeriesError, match=f"SUVType {suv_type}, expected BW"):
        suv_scale(replace(PET_HEADER, units="GML", suv_type=suv_type), ())


def test_counts_with_philips_suv_factor() -> None:
    assert suv_per_bqml(units="CNTS", philips_suv_factor=0.0004, philips_activity_factor=2.0) == 0.0004


def test_counts_with_philips_activity_factor_only() -> None:
    assert suv_per_bqml(units="CNTS", philips_activity_factor=2.0) == pytest.approx(5e-4)
    assert activity_scale(replace(PET_HEADER, units="CNTS", philips_activity_factor=2.0)).factor == 2.0


@pytest.mark.parametrize("zero", [None, 0.0])
def test_counts_without_factors_are_unusable_and_say_so(zero: float | None) -> None:
    with pytest.raises(MissingAttributeError, match=re.escape("(7053,xx00) SUV and (7053,xx09) Bq/mL are missing")):
        suv_state(replace(PET_HEADER, units="CNTS", philips_suv_factor=zero), ())


@pytest.mark.parametrize(
    ("injection_datetime", "half_lives"),
    [
        ("20200102100000", 1),
        ("20200102082000.000000", 2),
        ("20200102100000+0900", 1),  # the series says no zone: its clock is the scanner's
        ("202001021000", 1),
    ],
)
def test_the_injection_may_be_told_by_date_and_time_only(injection_datetime: str, half_lives: int) -> None:
    changes = {"injection_time": "", "injection_datetime": injection_datetime}
    assert suv_per_bqml(**changes) == pytest.approx(1.25e-4 * 2**half_lives)


def test_the_injection_is_put_on_the_series_clock() -> None:
    changes = {"injection_datetime": "20200102010000+0000", "timezone": "+0900"}  # 10:00 in Japan
    assert suv_per_bqml(**changes) == pytest.approx(2.5e-4)


@pytest.mark.parametrize("told_by", ["injection_time", "injection_datetime"])
def test_an_injection_before_midnight(told_by: str) -> None:
    injected = "233000" if told_by == "injection_time" else "20200101233000"
    changes = {"series_time": "011000", "injection_time": "", told_by: injected}  # 6000 s later, the next day
    assert suv_per_bqml(**changes) == pytest.approx(2.5e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"injection_time": "115000"},
            "RadiopharmaceuticalStartTime 115000 lies after the scan began (2020-01-02 11:40",
        ),
        (
            {"injection_datetime": "20200102114001"},
            "RadiopharmaceuticalStartDateTime 20200102114001 lies after the scan",
        ),
        ({"injection_datetime": "20190102100000", "injection_time": ""}, "lies 8761.7 h before the scan began"),
        ({"dose_bq": 4e11}, "RadionuclideTotalDose is 4e+11 Bq, expected 1e+06 to 1e+10 Bq"),
        ({"dose_bq": 4e5}, "RadionuclideTotalDose is 400000 Bq"),
        ({"weight_kg": 50000.0}, "PatientWeight is 50000 kg, expected 0.01 to 700 kg"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DicomError, match=re.escape(words)):
        suv_per_bqml(**changes)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"weight_kg": None}, "PatientWeight"),
        ({"weight_kg": 0.0}, "PatientWeight"),
        ({"dose_bq": None}, "RadionuclideTotalDose"),
        ({"half_life_s": None}, "RadionuclideHalfLife"),
        ({"injection_time": ""}, "RadiopharmaceuticalStartTime"),
        ({"injection_time": "soon"}, "RadiopharmaceuticalStartTime"),
        ({"series_time": ""}, "SeriesTime"),
        ({"decay_correction": ""}, "DecayCorrection"),
    ],
)
def test_what_is_missing_is_named_and_bqml_remains(changes: dict[str, Any], attribute: str) -> None:
    pet = replace(PET_HEADER, **changes)
    with pytest.raises(MissingAttributeError, match=attribute):
        suv_scale(pet, ())
    state = suv_state(pet, ())
    assert not state.has_suv
    assert state.words.startswith("Bq/mL only: ") and attribute in state.words
    assert activity_scale(pet).factor == 1.0


def test_a_dose_in_mbq_is_read_as_such_with_a_warning_that_names_it() -> None:
    state = suv_state(replace(PET_HEADER, dose_bq=388.8), ())
    assert state.has_suv
    assert "RadionuclideTotalDose is 388.8 Bq" in state.warnings[0]
    assert suv_per_bqml(dose_bq=400.0) == pytest.approx(2.5e-4)


def test_uncorrected_decay_is_refused() -> None:
    with pytest.raises(UnsupportedSeriesError, match="DecayCorrection NONE, expected START or ADMIN"):
        suv_per_bqml(decay_correction="NONE")


@pytest.mark.parametrize("units", ["PROPCPS", "CM2ML", "PCNT"])
def test_other_units_are_refused_by_name(units: str) -> None:
    with pytest.raises(UnsupportedSeriesError, match=f"Units {units}, expected BQML, GML or CNTS"):
        suv_state(replace(PET_HEADER, units=units), ())


def test_a_series_stored_again_later_decays_to_its_first_acquisition() -> None:
    """SeriesTime was overwritten at 13:20; acquired at 11:40 and 11:44 (QIBA's vendor-neutral rule)."""
    beds = (BedHeader("20200102", "114400", 240.0, 240.0), BedHeader("20200102", "114000", 0.0, 240.0))
    assert suv_per_bqml(beds, series_time="132000") == pytest.approx(2.5e-4)
    state = suv_state(replace(PET_HEADER, series_time="132000"), beds)
    assert "SeriesTime 13:20:00 is later than its first acquisition (11:40:00)" in state.warnings[0]


def test_a_series_stored_again_without_its_first_bed_has_lost_its_time() -> None:
    bed = BedHeader("20200102", "114400", frame_reference_time_s=1215.0, frame_duration_s=240.0)
    with pytest.raises(DicomError, match=r"that bed is not the first \(FrameReferenceTime 1215 s\)"):
        suv_per_bqml((bed,), series_time="132000")


@pytest.mark.parametrize("year", ["1999", "2038"])
def test_a_date_altered_by_de_identification_leaves_the_clock(year: str) -> None:
    pet = replace(PET_HEADER, injection_datetime=f"{year}0102100000")
    assert suv_scale(pet, ()).factor == pytest.approx(2.5e-4)
    assert f"RadiopharmaceuticalStartDateTime {year}0102100000 is days away" in suv_state(pet, ()).warnings[0]


@pytest.mark.parametrize(
    ("factor", "suspicious"),
    [
        (2 ** (1215 / 6000), False),  # corrected from the start of the bed, as FrameReferenceTime says
        (2 ** (1335 / 6000), False),  # ... from its middle, as GE does
        (2 ** (120 / 6000), True),  # corrected to the start of each bed: 1215 s of decay are left in
        (1.0, True),
    ],
)
def test_the_decay_factor_checks_the_rule(factor: float, suspicious: bool) -> None:
    bed = BedHeader("", "", frame_reference_time_s=1215.0, frame_duration_s=240.0, decay_factor=factor)
    _, warnings = injection_of(PET_HEADER, (bed,))
    assert [("DecayFactor" in warning) for warning in warnings] == [True] * suspicious


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20200102114000", datetime(2020, 1, 2, 11, 40)),
        ("20200102114000.25", datetime(2020, 1, 2, 11, 40, 0, 250000)),
        ("2020010211", datetime(2020, 1, 2, 11)),
        ("2020010211:40:07", datetime(2020, 1, 2, 11, 40, 7)),  # as ACR-NEMA wrote it
        ("20201302114000", None),
        ("20200102", None),
        ("", None),
    ],
)
def test_dicom_times(text: str, expected: datetime | None) -> None:
    assert parse_datetime(text) == expected
