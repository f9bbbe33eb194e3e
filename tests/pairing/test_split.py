"""A patient's side follows from the PatientID alone: no patient moves when others join, and none leaves test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import RecipeError
from lib.pairing.split import Side, Split

# Where each key lies between 0 and 1, by `printf ct2pet/P0 | sha256sum`: its first 16 digits over 16^16.
PLACES = {
    "P0": 0.464903, "P1": 0.580637, "P2": 0.184965, "P3": 0.113444, "P4": 0.194592,
    "P5": 0.483737, "P6": 0.207900, "P7": 0.284539, "P8": 0.051167, "P9": 0.013139,
    "PHANTOM_0001": 0.389192, "PHANTOM_0002": 0.138221, "PHANTOM_0003": 0.401131, "PHANTOM_0004": 0.074124,
    "PHANTOM_0005": 0.960777, "PHANTOM_0006": 0.170679, "PHANTOM_0007": 0.275206, "PHANTOM_0008": 0.929925,
    "PHANTOM_0009": 0.732584, "PHANTOM_0010": 0.033726,
}  # fmt: skip
SHARES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.49))


@pytest.mark.parametrize(("patient_id", "place"), PLACES.items())
def test_sides_are_what_they_have_always_been(patient_id: str, place: float) -> None:
    expected: Side = "test" if place < 0.2 else "validation" if place < 0.3 else "train"
    assert Split().side_of_patient(patient_id) == expected


def test_an_id_of_any_script_has_a_side() -> None:
    # printf 'ct2pet/患者 Ä' | sha256sum, in UTF-8: 266d..., 0.150
    assert Split(test=0.151).side_of_patient("患者 Ä") == "test"
    assert Split(test=0.149).side_of_patient("患者 Ä") == "validation"


def test_another_salt_is_another_split() -> None:
    assert Split(test=0.59).side_of_patient("P0") == "test"
    assert Split(test=0.59, salt="other").side_of_patient("P0") == "validation"  # 983f..., 0.595


@given(patients=st.sets(st.text(max_size=8), max_size=30), shares=SHARES)
def test_new_patients_move_no_others(patients: set[str], shares: tuple[float, float]) -> None:
    split = Split(validation=shares[0], test=shares[1])
    before = {patient: split.side_of_patient(patient) for patient in patients}
    after = {patient: split.side_of_patient(patient) for patient in patients | {"newcomer"}}
    assert before.items() <= after.items()


@given(patient=st.text(max_size=8), validation=SHARES, test=st.floats(0, 0.49))
def test_another_validation_fraction_does_not_change_the_test_side(
    patient: str, validation: tuple[float, float], test: float
) -> None:
    sides = [Split(validation=share, test=test).side_of_patient(patient) for share in validation]
    assert (sides[0] == "test") == (sides[1] == "test")


@given(patient=st.text(max_size=8), shares=st.tuples(st.floats(0, 0.89), st.floats(0, 0.89)))
def test_a_larger_test_fraction_only_adds_patients(patient: str, shares: tuple[float, float]) -> None:
    smaller, larger = (Split(validation=0.1, test=share).side_of_patient(patient) for share in sorted(shares))
    assert smaller != "test" or larger == "test"


def test_fractions_are_approximately_met() -> None:
    split = Split(validation=0.1, test=0.2)
    sides = [split.side_of_patient(f"patient {number}") for number in range(10_000)]
    assert sides.count("test") / 10_000 == pytest.approx(0.2, abs=0.016)  # four standard deviations
    assert sides.count("validation") / 10_000 == pytest.approx(0.1, abs=0.012)


@given(patient=st.text(max_size=8), index=st.integers(0, 1000))
def test_all_slices_of_a_patient_are_on_the_patients_side(patient: str, index: int) -> None:
    assert Split().side_of_slice(patient, index) == Split().side_of_patient(patient)


def test_under_slice_each_slice_has_a_side_of_its_own() -> None:
    split = Split(unit="slice", validation=0.0, test=64 / 464)
    assert split.side_of_slice("P0", 3) == "test"  # printf ct2pet/P0/3 | sha256sum: 04ff..., 0.0195
    sides = [split.side_of_slice("P0", index) for index in range(4640)]
    assert sides.count("test") == pytest.approx(640, abs=94) and sides.count("train") == 4640 - sides.count("test")


@pytest.mark.parametrize(
    ("shares", "expected"), [({"test": 0.0, "validation": 0.0}, "train"), ({"test": 0.999999999}, "test")]
)
def test_the_ends_of_the_shares(shares: dict[str, float], expected: str) -> None:
    split = Split(**{"validation": 0.0, **shares})  # type: ignore[arg-type]
    assert {split.side_of_patient(patient) for patient in PLACES} == {expected}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": "study"}, "split.unit must be one of patient, slice, found 'study'"),
        ({"validation": 0.5, "test": 0.5}, "fractions with a sum below 1, found 0.5 and 0.5"),
        ({"validation": -0.1}, "fractions with a sum below 1, found -0.1 and 0.2"),
        ({"test": float("nan")}, "fractions with a sum below 1, found 0.1 and nan"),
    ],
)
def test_impossible_splits_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as reported:
        Split(**settings)  # type: ignore[arg-type]
    assert message in str(reported.value)


def test_offsets_cut_the_patients_into_folds() -> None:
    patients = [f"P{number}" for number in range(200)]
    folds = [
        {
            patient
            for patient in patients
            if Split(test=0.25, validation=0, offset=k / 4).side_of_patient(patient) == "test"
        }
        for k in range(4)
    ]
    assert set.union(*folds) == set(patients)
    assert sum(map(len, folds)) == len(patients)
    assert folds[0] == {patient for patient in patients if Split(test=0.25).side_of_patient(patient) == "test"}


def test_an_offset_beyond_the_circle_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"split.offset must be at least 0 and below 1, found 1"):
        Split(offset=1.0)
