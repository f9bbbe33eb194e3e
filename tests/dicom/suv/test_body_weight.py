"""SUVbw = activity x weight / remaining dose: cases computed by hand, with misleading headers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from lib.dicom.attributes.times import parse_datetime
from lib.dicom.instance_header import BedHeader, PetHeader
from lib.dicom.suv.body_weight import activity_scale, suv_scale, suv_state
from lib.errors import DicomError, MissingAttributeError, UnsupportedSeriesError

# 400 MBq at 10:00, half-life 6000 s, series at 11:40: 6000 s later, 200 MBq are left. 50 kg.
# SUV of 1 Bq/mL: 50 000 g / 2e8 Bq = 2.5e-4.
PET_HEADER = PetHeader(
    units="BQML",
    decay_correction="START",
    corrected_image=("ATTN", "DECY"),
    series_date="20200102",
    series_time="114000",
    weight_kg=50.0,
    dose_bq=4e8,
    half_life_s=6000.0,
    injection_time="100000",
)
# A GE bed of 240 s that begins with the series
FIRST_BED = BedHeader("20200102", "114000", frame_reference_time_s=119.2, frame_duration_s=240.0)


def suv_per_bqml(beds: tuple[BedHeader, ...] = (), **changes: Any) -> float:
    return suv_scale(replace(PET_HEADER, **changes), beds).factor


def warnings_of(beds: tuple[BedHeader, ...] = (), **changes: Any) -> str:
    """Return all warnings except the one about the invented half-life of these tests."""
    scale = suv_scale(replace(PET_HEADER, **changes), beds)
    return "; ".join(warning for warning in scale.warnings if "no known PET nuclide" not in warning)


def test_start_decays_from_the_injection_to_the_series_time() -> None:
    assert suv_per_bqml() == pytest.approx(2.5e-4)
    assert suv_per_bqml((FIRST_BED,)) == pytest.approx(2.5e-4)
    assert warnings_of((FIRST_BED,)) == ""


def test_start_does_not_decay_to_the_acquisition_of_a_later_bed() -> None:
    later_bed = BedHeader("20200102", "120000", frame_reference_time_s=1200, frame_duration_s=120)
    assert suv_per_bqml((later_bed,)) == pytest.approx(2.5e-4)


def test_admin_does_not_decay_and_needs_no_clock() -> None:
    changes = {"decay_correction": "ADMIN", "injection_time": "", "series_time": "", "half_life_s": None}
    assert suv_per_bqml(**changes) == pytest.approx(1.25e-4)  # 50 000 / 4e8


@pytest.mark.parametrize("suv_type", ["", "BW"])
def test_gml_is_not_converted_again(suv_type: str) -> None:
    scale = suv_scale(replace(PET_HEADER, units="GML", suv_type=suv_type), ())
    assert (scale.factor, scale.source) == (1.0, "SUVbw (GML)")


# 80 kg, 160 cm, BMI 31.25
@pytest.mark.parametrize(
    ("suv_type", "sex", "mass_kg"),
    [
        ("LBM", "M", 1.10 * 80 - 120 * 0.25),
        ("LBM", "F", 1.07 * 80 - 148 * 0.25),
        ("LBM", "O", (58.0 + 48.6) / 2),
        ("LBMJAMES128", "M", 56.0),  # 88 - 32
        ("LBMJAMES128", "F", 48.6),
        ("LBMJANMA", "M", 741600 / 13430),  # 9270 x 80 / (6680 + 216 x 31.25)
        ("LBMJANMA", "F", 741600 / 16405),
        ("IBW", "M", 56.48),  # 48 + 1.06 x 8
        ("IBW", "F", 52.78),
        ("IBW", "O", 54.63),
    ],
)
def test_suv_by_another_mass_becomes_suv_by_weight(suv_type: str, sex: str, mass_kg: float) -> None:
    factor = suv_per_bqml(units="GML", suv_type=suv_type, sex=sex, size_m=1.6, weight_kg=80.0)
    assert factor == pytest.approx(80 / mass_kg, rel=1e-6)


def test_suv_by_surface_becomes_suv_by_weight() -> None:
    # Du Bois: 0.007184 x 160^0.725 x 80^0.425 = 1.83302 m2
    for suv_type in ("", "BSA"):
        factor = suv_per_bqml(units="CM2ML", suv_type=suv_type, size_m=1.6, weight_kg=80.0)
        assert factor == pytest.approx(80 / 18.3302, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": "GML", "suv_type": "BSA"}, "Units GML with SUVType BSA, expected one of BW, LBM"),
        ({"units": "CM2ML", "suv_type": "LBM"}, "Units CM2ML with SUVType LBM, expected BSA"),
        ({"units": "GML", "suv_type": "LBM"}, "PatientSize is missing, required by SUVType LBM"),
        ({"units": "GML", "suv_type": "LBM", "size_m": 1.7}, "PatientSex is missing, expected M, F or O"),
        ({"units": "GML", "suv_type": "IBW", "size_m": 1.7, "sex": "X"}, "PatientSex is 'X', expected M, F or O"),
        ({"units": "CM2ML"}, "PatientSize is missing, required by SUVType BSA"),
        ({"units": "CM2ML", "size_m": 0.1}, "PatientSize is 0.1 m, expected 0.2 to 2.8 m"),
        (
            {"units": "GML", "suv_type": "LBM", "size_m": 1.0, "sex": "F", "weight_kg": 150.0},
            "SUVType LBM: a weight of 150 kg and a height of 100 cm give a mass of",
        ),
    ],
)
def test_normalisation_without_required_attributes_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DicomError, match=re.escape(message)):
        suv_per_bqml(**changes)


def test_a_size_in_centimetres_is_read_as_such_with_a_warning() -> None:
    pet = replace(PET_HEADER, units="CM2ML", size_m=160.0, weight_kg=80.0)
    assert suv_scale(pet, ()).factor == pytest.approx(80 / 18.3302, rel=1e-4)
    assert "PatientSize is 160 m, too much for a patient: read as centimetres" in suv_scale(pet, ()).warnings[0]


def test_counts_with_philips_suv_factor() -> None:
    assert suv_per_bqml(units="CNTS", philips_suv_factor=0.0005) == 0.0005


def test_counts_with_philips_activity_factor_only() -> None:
    assert suv_per_bqml(units="CNTS", philips_activity_factor=2.0) == pytest.approx(5e-4)
    assert activity_scale(replace(PET_HEADER, units="CNTS", philips_activity_factor=2.0)).factor == 2.0


@pytest.mark.parametrize(("suv_factor", "agrees"), [(5.04e-4, True), (4.96e-4, True), (5.06e-4, False)])
def test_both_philips_factors_are_compared(suv_factor: float, agrees: bool) -> None:
    changes = {"units": "CNTS", "philips_suv_factor": suv_factor, "philips_activity_factor": 2.0}  # which gives 5e-4
    assert suv_per_bqml(**changes) == suv_factor
    assert (warnings_of(**changes) == "") == agrees
    assert agrees or "gives 0.0005 (SUV x 0.99)" in warnings_of(**changes)


@pytest.mark.parametrize("zero", [None, 0.0])
def test_counts_without_factors_are_refused(zero: float | None) -> None:
    with pytest.raises(MissingAttributeError, match=re.escape("(7053,xx00) SUV and (7053,xx09) Bq/mL are missing")):
        suv_state(replace(PET_HEADER, units="CNTS", philips_suv_factor=zero), ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"injection_time": "115000"},
            "RadiopharmaceuticalStartTime 115000 is after the start of the scan (2020-01-02 11:40",
        ),
        ({"injection_datetime": "20190102100000", "injection_time": ""}, "is 8761.7 h before the start of the scan"),
        ({"dose_bq": 4e11}, "RadionuclideTotalDose is 4e+11 Bq, 8e+03 MBq/kg for 50 kg"),
        ({"weight_kg": 900.0}, "PatientWeight is 900 kg, expected 0.01 to 700 kg"),
        ({"weight_kg": 1.7, "size_m": 80.0}, "PatientWeight is 1.7 kg and PatientSize 80 m: exchanged?"),
        ({"injections": 2}, "2 different injections in RadiopharmaceuticalInformationSequence"),
    ],
)
def test_implausible_values_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DicomError, match=re.escape(message)):
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
def test_missing_attribute_is_named_and_bqml_remains_available(changes: dict[str, Any], attribute: str) -> None:
    pet = replace(PET_HEADER, **changes)
    with pytest.raises(MissingAttributeError, match=attribute):
        suv_scale(pet, ())
    state = suv_state(pet, ())
    assert not state.has_suv
    assert state.text.startswith("Bq/mL only: ") and attribute in state.text
    assert activity_scale(pet).factor == 1.0


def test_missing_malformed_and_undelivered_have_different_messages() -> None:
    pet = replace(PET_HEADER, weight_kg=None)
    assert suv_state(pet, ()).text == "Bq/mL only: PatientWeight is missing"
    pet = replace(pet, malformed=(("PatientWeight", "heavy"),))
    assert suv_state(pet, ()).text == "Bq/mL only: PatientWeight 'heavy' is malformed"
    pet = replace(pet, malformed=(), undelivered=("PatientWeight",))
    assert "PatientWeight is not in the metadata of the PACS" in suv_state(pet, ()).text


def test_a_weight_in_grams_is_read_as_such_with_a_warning() -> None:
    assert suv_per_bqml(weight_kg=50000.0) == pytest.approx(2.5e-4)
    assert "PatientWeight is 50000 kg, too much for a patient: read as grams" in warnings_of(weight_kg=50000.0)


@pytest.mark.parametrize(
    ("written", "unit"),
    [(400.0, "MBq"), (4e5, "kBq"), (400 / 37, "mCi")],
)
def test_a_dose_in_another_unit_is_read_as_such_with_a_warning_that_names_it(written: float, unit: str) -> None:
    changes = {"dose_bq": written, "half_life_s": 6586.2}
    assert suv_per_bqml(**changes) == pytest.approx(suv_per_bqml(half_life_s=6586.2))
    assert f"RadionuclideTotalDose is {written:g} Bq" in warnings_of(**changes)
    assert f"read as {unit}" in warnings_of(**changes)


def test_a_dose_that_two_units_would_explain_is_refused() -> None:
    # a child of 15 kg: 5 MBq are 0.33 MBq/kg, 5 mCi are 12.3 MBq/kg
    with pytest.raises(DicomError, match=re.escape("(MBq or mCi would both be plausible)")):
        suv_per_bqml(dose_bq=5.0, weight_kg=15.0, half_life_s=6586.2)


@pytest.mark.parametrize(
    ("mbq_per_kg", "outcome"),
    [
        (0.301, "taken"), (19.9, "taken"), (0.299, "warned"), (20.1, "warned"), (0.151, "warned"), (39.9, "warned"),
        (0.149, "refused"), (40.1, "refused"),
    ],
)  # fmt: skip
def test_plausible_dose_depends_on_weight_and_nuclide(mbq_per_kg: float, outcome: str) -> None:
    changes = {"dose_bq": mbq_per_kg * 50e6, "half_life_s": 6586.2}  # F-18: usual 0.3 to 20 MBq/kg
    if outcome == "refused":
        with pytest.raises(DicomError, match=r"expected 0\.3 to 20 MBq/kg of F-18"):
            suv_per_bqml(**changes)
    else:
        assert ("check dose and weight" in warnings_of(**changes)) == (outcome == "warned")


def test_plausible_dose_of_a_mouse() -> None:
    assert warnings_of(dose_bq=7e6, weight_kg=0.025, half_life_s=6586.2) == ""


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("PROPCPS", "Units PROPCPS (proportional to counts per second"),
        ("PROPCNTS", "Units PROPCNTS (proportional to counts)"),
        ("CPS", "Units CPS (counts per second without a calibration factor)"),
        ("1CM", "Units 1CM (an attenuation map)"),
        ("PCNT", "Units PCNT, expected BQML, GML, CM2ML or CNTS"),
    ],
)
def test_other_units_are_refused_by_name(units: str, message: str) -> None:
    with pytest.raises(UnsupportedSeriesError, match=re.escape(message)):
        suv_state(replace(PET_HEADER, units=units), ())


def test_activity_with_an_suv_type_is_warned_about() -> None:
    assert "Units BQML with SUVType BW" in warnings_of(suv_type="BW")


def test_uncorrected_decay_is_corrected_bed_by_bed() -> None:
    """Frames of one half-life (6000 s) have a mean of (1 - e^-ln2) / ln2 = 0.72135 of their initial activity."""
    beds = (BedHeader("20200102", "114000", frame_duration_s=6000.0), BedHeader("20200102", "132000", None, 6000.0))
    scale = suv_scale(replace(PET_HEADER, decay_correction="NONE", corrected_image=("ATTN",)), beds)
    assert scale.of(beds[0]) == pytest.approx(2.5e-4 / 0.72135, rel=1e-5)
    assert scale.of(beds[1]) == pytest.approx(5e-4 / 0.72135, rel=1e-5)


def test_uncorrected_decay_without_its_times_is_refused() -> None:
    for bed in (BedHeader("20200102", "114000"), BedHeader("", "", None, 240.0)):
        with pytest.raises(MissingAttributeError, match="DecayCorrection NONE requires AcquisitionDate"):
            suv_scale(replace(PET_HEADER, decay_correction="NONE", corrected_image=("ATTN",)), (bed,))


@pytest.mark.parametrize(
    ("correction", "corrected_image", "factor", "outcome"),
    [
        ("START", ("ATTN", "DECY"), None, "taken"),
        ("START", (), None, "taken"),  # CorrectedImage is silent
        ("START", ("ATTN",), None, "refused"),
        ("START", ("ATTN",), 1.0, "refused"),
        ("START", ("ATTN",), 2 ** (119.2 / 6000), "warned"),  # the factor shows that it was corrected
        ("NONE", ("ATTN", "DECY"), None, "refused"),
        ("NONE", ("ATTN",), 1.0, "taken"),
    ],
)
def test_decay_correction_is_compared_with_corrected_image(
    correction: str, corrected_image: tuple[str, ...], factor: float | None, outcome: str
) -> None:
    beds = (replace(FIRST_BED, decay_factor=factor),)
    changes = {"decay_correction": correction, "corrected_image": corrected_image}
    if outcome == "refused":
        with pytest.raises(DicomError, match=f"DecayCorrection is {correction}, but CorrectedImage"):
            suv_per_bqml(beds, **changes)
    else:
        assert ("DecayFactor" in warnings_of(beds, **changes)) == (outcome == "warned")


def test_admin_is_compared_with_the_decay_factor() -> None:
    since_injection = replace(FIRST_BED, decay_factor=2 ** ((6000 + 119.2) / 6000))
    assert suv_per_bqml((since_injection,), decay_correction="ADMIN") == pytest.approx(1.25e-4)
    with pytest.raises(DicomError, match=r"is ADMIN, but DecayFactor 1\.01387 corrects 119 s"):
        suv_per_bqml((replace(FIRST_BED, decay_factor=2 ** (119.2 / 6000)),), decay_correction="ADMIN")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20200102114000", datetime(2020, 1, 2, 11, 40)),
        ("20200102114000.25", datetime(2020, 1, 2, 11, 40, 0, 250000)),
        ("2020010211", datetime(2020, 1, 2, 11)),
        ("2020010211:40:07", datetime(2020, 1, 2, 11, 40, 7)),  # as ACR-NEMA wrote it
        ("20201302114000", None),
        ("20200102", None),
        ("20200102114000+9900", None),
        ("", None),
    ],
)
def test_dicom_times(text: str, expected: datetime | None) -> None:
    assert parse_datetime(text) == expected
