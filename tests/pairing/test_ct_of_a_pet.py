"""Which CT belongs to which PET: time, purpose, contrast, kernel; early and delayed scans; other studies of the day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.pairing.pairs import PairingReport, pair_record, pair_series
from tests.dicom.builders import CT, PET, write_series

OTHER_CT, OTHER_PET, DAY = "1.2.3.1.4", "1.2.3.1.5", "20200102"


def at(clock: str, day: str = DAY, **more: Any) -> dict[str, Any]:
    """Attributes of a series acquired at hhmm."""
    return {
        "AcquisitionDate": day,
        "AcquisitionTime": f"{clock}00",
        "SeriesDate": day,
        "SeriesTime": f"{clock}00",
        **more,
    }


def pair(root: Path) -> PairingReport:
    return pair_series(scan_folder(root))


def uids(report: PairingReport) -> set[tuple[str, str]]:
    return {(found.pair.ct.uid, found.pair.pet.uid) for found in report.pairs}


def why(report: PairingReport, uid: str) -> str:
    return next(alone.reason for alone in report.unpaired if alone.series_uid == uid)


def write_two_cts(root: Path, first: dict[str, Any], second: dict[str, Any], **of_pet: Any) -> None:
    write_series(root / "first", **first)
    write_series(root / "second", **({"SeriesInstanceUID": OTHER_CT} | second))
    write_series(root / "pet", modality="PT", **(at("1140") | of_pet))


@pytest.mark.parametrize(
    ("worse", "better", "words"),
    [
        (at("1342"), at("1138"), "was acquired 2 min before the PET, the next 122 min after the PET"),
        ({}, at("1138"), "was acquired 2 min before the PET, the next at an unknown time"),
        (at("1342"), {}, "was acquired at an unknown time, the next 122 min after the PET"),
        (at("1139"), at("1138", SeriesDescription="CT AC"), "was acquired for the PET by its description, 'CT AC'"),
        (
            at("1138", ContrastBolusAgent="ULTRAVIST"),
            at("1138", ContrastBolusAgent="NONE"),
            "has no contrast (the next: ULTRAVIST)",
        ),
        ({"SeriesDescription": "CHEST CE"}, {"SeriesDescription": "CHEST"}, "has no contrast (the next: 'CHEST CE')"),
        (
            {"ConvolutionKernel": "B70f", "count": 9},
            {"ConvolutionKernel": "B30f"},
            "has the softer kernel, B30f (the next: B70f)",
        ),
        ({"count": 5}, {"count": 6}, "has the most slices (6 against 5)"),
    ],
)
def test_of_cts_that_cover_a_pet_alike(
    tmp_path: Path, worse: dict[str, Any], better: dict[str, Any], words: str
) -> None:
    write_two_cts(tmp_path, worse, better)
    report = pair(tmp_path)
    assert uids(report) == {(OTHER_CT, PET)}
    assert words in report.pairs[0].reason


def test_only_cts_that_are_alike_in_all_are_told_apart_by_uid_and_that_is_said(tmp_path: Path) -> None:
    write_two_cts(tmp_path, {}, {})
    report = pair(tmp_path)
    assert uids(report) == {(CT, PET)}
    assert report.pairs[0].reason.endswith("and its UID sorts first")


@pytest.mark.parametrize(("clock", "expected"), [("1150", OTHER_CT), ("1151", CT)])
def test_ten_minutes_are_one_time_eleven_are_not(tmp_path: Path, clock: str, expected: str) -> None:
    write_two_cts(tmp_path, at("1140"), at(clock, SeriesDescription="CT AC"))  # 10 min further away, then 11
    assert uids(pair(tmp_path)) == {(expected, PET)}


def test_a_series_that_was_stored_again_is_judged_by_its_acquisition(tmp_path: Path) -> None:
    write_two_cts(tmp_path, at("1138", SeriesTime="180000"), at("1342", SeriesTime="114000"))
    assert uids(pair(tmp_path)) == {(CT, PET)}


def test_the_time_of_the_series_stands_in_where_no_acquisition_tells_one(tmp_path: Path) -> None:
    no_time = {"AcquisitionTime": None, "AcquisitionDate": None}
    write_two_cts(tmp_path, at("1342") | no_time, at("1138") | no_time, **no_time)
    assert uids(pair(tmp_path)) == {(OTHER_CT, PET)}


@pytest.mark.parametrize("time", ["2590", "noon", "", "99"])
def test_a_malformed_time_is_an_unknown_one(tmp_path: Path, time: str) -> None:
    write_two_cts(tmp_path, {"AcquisitionDate": DAY, "AcquisitionTime": time}, at("1138"))
    assert uids(pair(tmp_path)) == {(OTHER_CT, PET)}


# -- early and delayed -------------------------------------------------------------------------------------------------


def write_early_and_delayed(root: Path, *, delayed: str = "1340", delayed_ct: str = "1338", **of_delayed: Any) -> None:
    write_series(root / "ct1", **at("1138"))
    write_series(root / "pet1", modality="PT", **at("1140"))
    write_series(root / "ct2", **(at(delayed_ct) | {"SeriesInstanceUID": OTHER_CT}))
    write_series(root / "pet2", modality="PT", **(at(delayed, SeriesInstanceUID=OTHER_PET) | of_delayed))


def test_early_and_delayed_pet_each_have_their_own_ct(tmp_path: Path) -> None:
    write_early_and_delayed(tmp_path)
    report = pair(tmp_path)
    assert [(found.pair.ct.uid, found.pair.pet.uid) for found in report.pairs] == [(CT, PET), (OTHER_CT, OTHER_PET)]
    assert "acquired 2 min before the PET, the next CT 118 min after the PET" in report.pairs[0].reason
    assert pair_record(report.pairs[1], tolerance_mm=0.2).ct_minutes_after_pet == -2


@pytest.mark.parametrize("better", [{"count": 9}, {"PatientWeight": 40.0, "count": 5}])
def test_a_better_pet_does_not_take_the_ct_of_another_time(tmp_path: Path, better: dict[str, Any]) -> None:
    write_early_and_delayed(tmp_path, **better)
    assert uids(pair(tmp_path)) == {(CT, PET), (OTHER_CT, OTHER_PET)}


def test_a_delayed_pet_without_a_ct_stays_alone_rather_than_take_the_early_one(tmp_path: Path) -> None:
    write_series(tmp_path / "ct1", **at("1138"))
    write_series(tmp_path / "lung", **at("1138", SeriesInstanceUID=OTHER_CT, ConvolutionKernel="B70f"))
    write_series(tmp_path / "pet1", modality="PT", **at("1140"))
    write_series(tmp_path / "pet2", modality="PT", count=9, **at("1340", SeriesInstanceUID=OTHER_PET))
    report = pair(tmp_path)
    assert uids(report) == {(CT, PET)}
    assert f"is paired with PET {PET}, which was acquired nearer" in why(report, OTHER_PET)


def test_reconstructions_of_one_acquisition_give_one_pair(tmp_path: Path) -> None:
    write_series(tmp_path / "ct1", **at("1138"))
    write_series(tmp_path / "lung", **at("1138", SeriesInstanceUID=OTHER_CT, ConvolutionKernel="B70f"))
    write_series(tmp_path / "pet1", modality="PT", **at("1140"))
    write_series(tmp_path / "tof", modality="PT", **at("1140", SeriesInstanceUID=OTHER_PET, SeriesTime="120500"))
    report = pair(tmp_path)
    assert uids(report) == {(CT, PET)}
    assert why(report, OTHER_PET).startswith(f"another PET of the study is used ({PET})")


@pytest.mark.parametrize(("brain", "pairs"), [("1125", {(CT, PET)}), ("1118", {(CT, OTHER_PET)})])
def test_two_scans_of_one_visit_share_a_ct_and_the_better_pet_has_it(
    tmp_path: Path, brain: str, pairs: set[tuple[str, str]]
) -> None:
    """The body's PET at 11:40, the brain's before it; the CT at 11:20 is 20 min and 5, then 20 and 2 away."""
    write_series(tmp_path / "ct", count=9, **at("1120"))
    write_series(tmp_path / "brain", modality="PT", **at(brain, SeriesInstanceUID=OTHER_PET))
    write_series(tmp_path / "body", modality="PT", count=9, **at("1140" if brain == "1125" else "1143"))
    assert uids(pair(tmp_path)) == pairs


def test_a_ct_that_does_not_tell_its_time_is_not_guessed_to_be_of_one_of_two_scans(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet1", modality="PT", **at("1140"))
    write_series(tmp_path / "pet2", modality="PT", **at("1340", SeriesInstanceUID=OTHER_PET))
    report = pair(tmp_path)
    assert uids(report) == set()
    assert "2 PET acquisitions of its frame of reference overlap it, and a time is missing" in why(report, CT)
    named = pair_series(scan_folder(tmp_path), preferred_ct=frozenset({CT}))
    assert len(named.pairs) == 1


def test_a_far_ct_is_told_to_be_far(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", **at("1340"))
    write_series(tmp_path / "pet", modality="PT", **at("1140"))
    assert pair(tmp_path).pairs[0].reason.endswith("it covers 100% of it; acquired 120 min after the PET")


# -- other studies of the day ------------------------------------------------------------------------------------------


def write_two_studies(root: Path, of_ct: dict[str, Any], of_pet: dict[str, Any] | None = None) -> None:
    write_series(root / "ct", StudyInstanceUID="9.9", **of_ct)
    write_series(root / "pet", modality="PT", **(at("1140") | (of_pet or {})))


@pytest.mark.parametrize("of_ct", [{}, at("1300"), at("2359"), {"StudyDate": "20200103", **at("1138")}])
def test_a_ct_of_another_study_of_that_day_pairs_and_it_is_said(tmp_path: Path, of_ct: dict[str, Any]) -> None:
    write_two_studies(tmp_path, of_ct)
    (found,) = pair(tmp_path).pairs
    record = pair_record(found, tolerance_mm=0.2)
    assert (record.study_instance_uid, record.ct_study_instance_uid) == ("1.2.3.1", "9.9")
    assert "the CT is of another study of that day" in record.paired_because


def test_a_visit_may_last_over_midnight(tmp_path: Path) -> None:
    write_two_studies(tmp_path, at("2350", StudyDate=DAY), at("0010", day="20200103", StudyDate="20200103"))
    assert uids(pair(tmp_path)) == {(CT, PET)}


@pytest.mark.parametrize(
    ("of_ct", "of_pet", "words"),
    [
        ({"StudyDate": "20200103"}, {}, f"is of another day (StudyDate 20200103, of the PET {DAY})"),
        (at("1138", day="20200103"), {}, f"was acquired on another day (20200103, the PET {DAY})"),
        ({"StudyDate": None}, {}, "cannot be told to be of the same day: a date is missing"),
        ({"PatientID": "P2"}, {}, "no CT in the same study"),
        ({"FrameOfReferenceUID": "9.8"}, {}, "no CT in the same study"),
        ({"PatientID": ""}, {"PatientID": ""}, "without PatientID"),
        (
            {"vary": lambda k: {"ImagePositionPatient": [0, 0, 900.0 + k]}},
            {},
            f"CT {CT} does not overlap PET {PET}",
        ),
    ],
)
def test_a_ct_of_another_study_stays_alone_for_a_reason(
    tmp_path: Path, of_ct: dict[str, Any], of_pet: dict[str, Any], words: str
) -> None:
    write_two_studies(tmp_path, of_ct, of_pet)
    report = pair(tmp_path)
    assert uids(report) == set()
    assert words in why(report, PET)


def test_a_ct_of_the_pets_own_study_goes_before_a_better_one_of_another(tmp_path: Path) -> None:
    write_series(tmp_path / "own", **at("1200", ConvolutionKernel="B70f"))
    write_series(
        tmp_path / "other",
        count=9,
        **at("1138", SeriesInstanceUID=OTHER_CT, StudyInstanceUID="9.9", SeriesDescription="CTAC"),
    )
    write_series(tmp_path / "pet", modality="PT", **at("1140"))
    assert uids(pair(tmp_path)) == {(CT, PET)}


def test_an_own_ct_that_does_not_overlap_does_not_keep_the_pet_from_another_studys(tmp_path: Path) -> None:
    write_series(
        tmp_path / "head", SeriesInstanceUID=OTHER_CT, vary=lambda k: {"ImagePositionPatient": [0, 0, 900 + k]}
    )
    write_two_studies(tmp_path, at("1138"))
    assert uids(pair(tmp_path)) == {(CT, PET)}


def test_a_ct_is_not_taken_from_the_pet_of_its_own_study(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", StudyInstanceUID="9.9", **at("1138"))
    write_series(
        tmp_path / "lung", StudyInstanceUID="9.9", **at("1138", SeriesInstanceUID=OTHER_CT, ConvolutionKernel="B70f")
    )
    write_series(tmp_path / "its pet", modality="PT", StudyInstanceUID="9.9", **at("1140", SeriesInstanceUID=OTHER_PET))
    write_series(tmp_path / "pet", modality="PT", **at("1140"))
    report = pair(tmp_path)
    assert uids(report) == {(CT, OTHER_PET)}
    assert "is paired with a PET of its own study" in why(report, PET)


def test_a_delayed_pet_in_a_study_of_its_own_finds_its_ct_in_the_first(tmp_path: Path) -> None:
    write_early_and_delayed(tmp_path, StudyInstanceUID="9.9")
    assert uids(pair(tmp_path)) == {(CT, PET), (OTHER_CT, OTHER_PET)}
