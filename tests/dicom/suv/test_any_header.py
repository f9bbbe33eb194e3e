"""For any header, the SUV computation returns a factor or a reason, and never raises another error."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.suv.body_weight import suv_scale, suv_state
from lib.errors import DicomError

NUMBERS = (
    st.none()
    | st.sampled_from([0.0, -1.0, 1e-300, 1e300, 70.0, 1.75, 4e8, 388.8, 6586.2, 109.77, 282276.0])
    | (st.floats(allow_nan=False, allow_infinity=False))
)
DATES = st.sampled_from(["", "20240115", "20240116", "00010101", "99991231", "19000101", "20240230", "no date"])
CLOCKS = st.sampled_from(["", "091919", "000000", "235959.999999", "103000", "24", "no time"])
MOMENTS = st.builds("{}{}{}".format, DATES, CLOCKS, st.sampled_from(["", "+0000", "-1400", "+9999"]))
BEDS = st.lists(
    st.builds(
        BedHeader,
        acquisition_date=DATES,
        acquisition_time=CLOCKS,
        frame_reference_time_s=NUMBERS,
        frame_duration_s=NUMBERS,
        decay_factor=NUMBERS,
    ),
    max_size=3,
)
PETS = st.builds(
    PetHeader,
    units=st.sampled_from(["BQML", "GML", "CM2ML", "CNTS", "CPS", ""]),
    suv_type=st.sampled_from(["", "BW", "LBM", "LBMJANMA", "IBW", "BSA", "X"]),
    decay_correction=st.sampled_from(["START", "ADMIN", "NONE", "", "X"]),
    corrected_image=st.sampled_from([(), ("ATTN",), ("ATTN", "DECY")]),
    study_date=DATES,
    series_date=DATES,
    series_time=CLOCKS,
    timezone=st.sampled_from(["", "+0100", "-0930", "x"]),
    weight_kg=NUMBERS,
    size_m=NUMBERS,
    sex=st.sampled_from(["", "M", "F", "O", "?"]),
    injections=st.integers(1, 2),
    dose_bq=NUMBERS,
    half_life_s=NUMBERS,
    nuclide_code=st.sampled_from(["", "C-111A1", "C-168A4"]),
    nuclide_meaning=st.sampled_from(["", "^18^Fluorine", "^89^Zirconium"]),
    injection_time=CLOCKS,
    injection_datetime=MOMENTS,
    decay_correction_datetime=MOMENTS,
    private_injection_datetime=MOMENTS,
    philips_suv_factor=NUMBERS,
    philips_activity_factor=NUMBERS,
)


@settings(max_examples=500)
@given(pet=PETS, beds=BEDS)
def test_a_header_gives_a_factor_or_a_reason(pet: PetHeader, beds: list[Any]) -> None:
    try:
        scale = suv_scale(pet, beds)
    except DicomError as error:
        assert str(error)
    else:
        factors = [scale.factor, *scale.by_bed.values()]
        assert all(math.isfinite(factor) and factor >= 0 for factor in factors)
    try:
        state = suv_state(pet, beds)
    except DicomError as error:
        assert str(error)
    else:
        assert state.text
