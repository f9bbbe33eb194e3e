"""Each PET gets the CT of its study that fits best, with the reason; each unpaired series has a reason, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.errors import PairingError
from lib.pairing.pairs import PairingReport, pair_record, pair_series
from tests.dicom.builders import CT, PET, write_series

OTHER_CT, OTHER_PET = "1.2.3.1.4", "1.2.3.1.5"


def leaning(k: int) -> dict[str, Any]:
    """The place of slice k, 3 mm on along a normal that leans 5 degrees."""
    return {"ImagePositionPatient": [-10, round(-20 - 0.0872 * 3 * k, 4), round(100 + 0.9962 * 3 * k, 4)]}


def paired(root: Path, *preferred: str) -> PairingReport:
    return pair_series(scan_folder(root), preferred_ct=frozenset(preferred))


def uids(report: PairingReport) -> list[tuple[str, str]]:
    return [(found.pair.ct.uid, found.pair.pet.uid) for found in report.pairs]


def reason(report: PairingReport, uid: str) -> str:
    return next(alone.reason for alone in report.unpaired if alone.series_uid == uid)


def test_a_ct_and_a_pet_of_one_study_pair_across_folders(tmp_path: Path) -> None:
    write_series(tmp_path / "here")
    write_series(tmp_path / "there", modality="PT")
    report = paired(tmp_path)
    assert uids(report) == [(CT, PET)]
    assert report.unpaired == ()
    assert report.pairs[0].reason == "the only CT that overlaps the PET; it covers 100% of it"


def test_a_record_of_a_pair(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", count=6)
    write_series(tmp_path / "pet", modality="PT", vary=lambda k: {"ImagePositionPatient": [-10, -20, 100.1 + 3 * k]})
    record = pair_record(paired(tmp_path).pairs[0], tolerance_mm=0.2)
    assert (record.patient_id, record.ct_slices, record.pet_slices, record.slice_pairs) == ("P1", 6, 5, 5)
    assert record.max_offset_mm == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"StudyInstanceUID": "9.9", "FrameOfReferenceUID": "9.8"}, "no CT in the same study"),
        ({"FrameOfReferenceUID": "9.9"}, "the CT of the same study has another frame of reference; register them"),
        ({"FrameOfReferenceUID": None}, "FrameOfReferenceUID is missing"),
        ({"PatientID": "P2"}, "the CT of the same study has another PatientID"),
        ({"vary": lambda k: {"ImagePositionPatient": [0, 0, 900.0 + k]}}, "no original CT of the study overlaps it"),
        ({"CorrectedImage": ["SCAT"]}, "not attenuation-corrected"),
        (
            {"ImageOrientationPatient": [1, 0, 0, 0, 0.9962, 0.0872], "vary": leaning},
            f"slices are tilted by 5.0 degrees relative to those of CT {CT}",
        ),
    ],
)
def test_why_a_pet_is_not_paired(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT", **changes)
    report = paired(tmp_path)
    assert uids(report) == []
    assert message in reason(report, PET)
    assert {alone.series_uid for alone in report.unpaired} == {CT, PET}


def test_the_reason_of_a_ct_without_a_pet(tmp_path: Path) -> None:
    write_series(tmp_path)
    (alone,) = paired(tmp_path).unpaired
    assert (alone.series_uid, alone.patient_id, alone.modality) == (CT, "P1", "CT")
    assert alone.reason == "no PET in the same study"


def test_the_reason_of_a_ct_with_an_unusable_pet(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT", CorrectedImage=["SCAT"])
    assert "no usable PET in the same study (not attenuation-corrected" in reason(paired(tmp_path), CT)


def test_of_several_cts_the_one_that_covers_the_pet_best(tmp_path: Path) -> None:
    write_series(tmp_path / "short", count=3)
    write_series(tmp_path / "long", count=10, SeriesInstanceUID=OTHER_CT)
    write_series(tmp_path / "pet", count=10, modality="PT")
    report = paired(tmp_path)
    assert uids(report) == [(OTHER_CT, PET)]
    assert report.pairs[0].reason == "the CT covers 100% of the PET, the next one 30%"
    assert reason(report, CT).startswith(f"another CT of the study is used ({OTHER_CT})")


def test_of_equal_cover_the_finer_ct(tmp_path: Path) -> None:
    write_series(tmp_path / "coarse", count=6)
    fine = {"vary": lambda k: {"ImagePositionPatient": [-10, -20, 99.0 + k]}}
    write_series(tmp_path / "fine", count=18, SeriesInstanceUID=OTHER_CT, **fine)
    write_series(tmp_path / "pet", count=6, modality="PT")
    report = paired(tmp_path)
    assert uids(report) == [(OTHER_CT, PET)]
    assert report.pairs[0].reason == "2 CTs cover 100% of the PET; this one has the most slices (18 against 6)"


def test_a_narrow_field_of_view_covers_less(tmp_path: Path) -> None:
    write_series(tmp_path / "narrow", count=9, PixelSpacing=[1.0, 1.5])
    write_series(tmp_path / "wide", SeriesInstanceUID=OTHER_CT)
    write_series(tmp_path / "pet", modality="PT")
    assert paired(tmp_path).pairs[0].reason == "the CT covers 100% of the PET, the next one 50%"  # 6 of 12 mm of rows


def test_the_user_may_name_the_ct(tmp_path: Path) -> None:
    write_series(tmp_path / "short", count=3)
    write_series(tmp_path / "long", count=10, SeriesInstanceUID=OTHER_CT)
    write_series(tmp_path / "pet", count=10, modality="PT")
    report = paired(tmp_path, CT)
    assert uids(report) == [(CT, PET)]
    assert report.pairs[0].reason == "the CT was named by the user"


def test_a_derived_ct_pairs_only_when_it_is_named(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    write_series(tmp_path / "pet", modality="PT")
    report = paired(tmp_path)
    assert uids(report) == []
    assert reason(report, CT) == "ImageType DERIVED/PRIMARY is not ORIGINAL; name this CT to use it anyway"
    assert uids(paired(tmp_path, CT)) == [(CT, PET)]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("8.8.8", "no CT series with this UID"),
        (PET, "no CT series with this UID"),
        (OTHER_CT, "cannot be used: a localiz"),
    ],
)
def test_a_named_ct_must_be_a_usable_ct(tmp_path: Path, named: str, message: str) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT")
    write_series(tmp_path / "scout", SeriesInstanceUID=OTHER_CT, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(PairingError, match=f"CT {named}: {message}"):
        paired(tmp_path, named)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"PatientWeight": None, "count": 8}, {}, "it has SUV"),
        ({}, {"count": 8}, r"it has more slices (8 instead of 5)"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, {}, "it is the original"),
    ],
)
def test_of_several_pets_the_best(tmp_path: Path, first: dict[str, Any], second: dict[str, Any], message: str) -> None:
    write_series(tmp_path / "ct", count=8)
    write_series(tmp_path / "a", modality="PT", **first)
    write_series(tmp_path / "b", modality="PT", SeriesInstanceUID=OTHER_PET, **second)
    report = paired(tmp_path)
    assert uids(report) == [(CT, OTHER_PET)]
    assert message in report.pairs[0].reason
    assert reason(report, PET) == f"another PET of the study is used ({OTHER_PET}): {message}"


def test_the_best_pet_that_overlaps_a_ct_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    far = {"vary": lambda k: {"ImagePositionPatient": [0, 0, 900.0 + 3 * k]}}
    write_series(tmp_path / "head", count=9, modality="PT", SeriesInstanceUID=OTHER_PET, **far)
    write_series(tmp_path / "body", modality="PT")
    report = paired(tmp_path)
    assert uids(report) == [(CT, PET)]
    assert reason(report, OTHER_PET) == "no original CT of the study overlaps it"


def test_each_frame_of_reference_of_a_study_has_its_pair(tmp_path: Path) -> None:
    for number, frame in enumerate(("7.1", "7.2")):
        attributes = {"FrameOfReferenceUID": frame, "SeriesInstanceUID": f"5.{number}.1"}
        write_series(tmp_path / f"ct{number}", **attributes)
        write_series(tmp_path / f"pet{number}", modality="PT", **(attributes | {"SeriesInstanceUID": f"5.{number}.2"}))
    assert uids(paired(tmp_path)) == [("5.0.1", "5.0.2"), ("5.1.1", "5.1.2")]


def test_our_synthetic_pet_never_pairs(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT", ImageType=["DERIVED", "SECONDARY"], SeriesDescription="SYNTHETIC PET")
    report = paired(tmp_path)
    assert uids(report) == []
    assert reason(report, PET).startswith("synthetic PET")


def test_stacks_that_run_against_each_other_still_pair(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(tmp_path / "pet", modality="PT", ImageOrientationPatient=[1, 0, 0, 0, -1, 0], count=4)
    (found,) = paired(tmp_path).pairs
    assert found.match(tolerance_mm=0.2).pairs == ((0, 3), (1, 2), (2, 1), (3, 0))
