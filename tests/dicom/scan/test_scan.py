"""Scanning of folders: usable and refused series; a bad file or series does not affect the others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import ScannedSeries, require_series, scan_folder
from lib.errors import StudiesError
from tests.dicom.builders import CT, CT_CLASS, FRAME, PET, STUDY, radiopharmaceutical, write_series


def only(root: Path) -> ScannedSeries:
    (series,) = scan_folder(root).series
    return series


def test_a_ct_and_its_pet_are_found_in_nested_folders_under_any_names(tmp_path: Path) -> None:
    ct_files = write_series(tmp_path / "a" / "deep", names="IM{}".format)
    write_series(tmp_path / "b", modality="PT")
    report = scan_folder(tmp_path)
    assert [found.series.uid for found in report.usable("CT") + report.usable("PT")] == [CT, PET]
    ct = report.find(CT)
    assert ct is not None and ct.series.files == tuple(ct_files)
    assert (ct.series.patient_id, ct.series.study_uid, ct.series.frame_of_reference_uid) == ("P1", STUDY, FRAME)
    assert (ct.matrix, ct.spacing_mm, ct.study_date) == ((6, 8), (3.0, 2.0, 1.5), "20200102")
    assert ct.positions_mm == (100, 103, 106, 109, 112)
    assert (ct.suv, ct.has_suv) == (None, False)


def test_series_of_one_study_in_two_folders_are_one_study(tmp_path: Path) -> None:
    write_series(tmp_path / "one")
    write_series(tmp_path / "two", modality="PT")
    (study,) = scan_folder(tmp_path).studies
    assert (study.uid, [series.modality for series in study.series]) == (STUDY, ["CT", "PT"])


def test_files_come_in_stack_order_whatever_their_names(tmp_path: Path) -> None:
    files = write_series(tmp_path, count=4, names=lambda k: "dbca"[k])
    assert only(tmp_path).series.files == tuple(files)


def test_an_unusable_series_is_listed_with_its_reason(tmp_path: Path) -> None:
    write_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = only(tmp_path)
    assert (found.is_usable, found.geometry, found.positions_mm) == (False, None, ())
    assert found.reason == "a localizer (ImageType LOCALIZER), not a slice of a volume"


def test_invalid_and_truncated_files_are_skipped(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("not for you")
    truncated = tmp_path / "zz_truncated.dcm"
    truncated.write_bytes(files[0].read_bytes()[:-20])
    report = scan_folder(tmp_path)
    assert {(skipped.path.name, skipped.reason.split(": ")[1].split(",")[0]) for skipped in report.skipped} == {
        ("notes.txt", "not a DICOM file"),
        ("zz_truncated.dcm", "truncated"),
    }
    assert len(report.usable("CT")[0].series.files) == 5


def test_a_missing_slice_is_a_gap_not_a_smaller_series(tmp_path: Path) -> None:
    write_series(tmp_path, count=7)[3].unlink()
    assert "gap: no slice between 106.00 and 112.00 mm" in (only(tmp_path).reason or "")


def test_a_copied_file_is_used_once_with_a_warning(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    shutil.copy(files[2], tmp_path / "zz_copy.dcm")
    found = only(tmp_path)
    assert found.series.files == tuple(files)
    assert found.warnings == (
        "1 duplicate file(s) with the SOPInstanceUID of another file; the first in path order is used",
    )


def test_scouts_in_a_series_are_ignored_with_a_warning(tmp_path: Path) -> None:
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    write_series(tmp_path, count=7, vary=lambda k: scout if k == 6 else {})
    found = only(tmp_path)
    assert len(found.series.files) == 6
    assert "1 instance(s) ignored: a localizer" in found.warnings[0]


def test_slices_of_two_sizes_give_the_larger_stack(tmp_path: Path) -> None:
    write_series(tmp_path, count=9, vary=lambda k: {"Rows": 4} if k >= 6 else {})
    found = only(tmp_path)
    assert (found.matrix, len(found.series.files)) == ((6, 8), 6)
    assert "the largest is used (6 slices of 6 x 8), 3 slices are ignored" in found.warnings[0]


def test_larger_of_two_acquisitions_at_one_position_is_used(tmp_path: Path) -> None:
    def vary(k: int) -> dict[str, Any]:
        acquisition, place = divmod(k, 6)
        return {"AcquisitionNumber": acquisition, "ImagePositionPatient": [0, 0, 3.0 * place]}

    write_series(tmp_path, count=11, vary=vary)
    found = only(tmp_path)
    assert (found.is_usable, len(found.series.files)) == (True, 6)
    assert "5 slices are ignored" in found.warnings[0]


def test_acquisitions_that_form_one_stack_are_combined(tmp_path: Path) -> None:
    write_series(tmp_path, count=8, vary=lambda k: {"AcquisitionNumber": k // 4})
    found = only(tmp_path)
    assert (len(found.series.files), found.warnings) == (8, ())


def test_indistinguishable_repeats_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, count=10, vary=lambda k: {"ImagePositionPatient": [0, 0, 3.0 * (k % 5)]})
    assert "5 of 10 slices have the position of another slice" in (only(tmp_path).reason or "")


@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED"])
def test_time_frames_of_a_pet_are_refused_and_not_split(tmp_path: Path, kind: str) -> None:
    def vary(k: int) -> dict[str, Any]:
        return {"ImagePositionPatient": [0, 0, 3.0 * (k % 5)], "AcquisitionNumber": k // 5}

    write_series(tmp_path, count=10, modality="PT", vary=vary, SeriesType=[kind, "IMAGE"])
    assert f"SeriesType {kind}: 5 of 10 slices have the position of another slice" in (only(tmp_path).reason or "")


def test_single_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, count=1)
    assert only(tmp_path).reason == "1 slice, expected at least 2 to form a volume"


def test_a_series_of_two_modalities_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, count=6, vary=lambda k: {"Modality": "PT" if k == 5 else "CT"})
    assert only(tmp_path).reason == "its files have several modalities (CT, PT), expected one"


@pytest.mark.parametrize(
    ("attributes", "has_suv", "suv"),
    [
        ({}, True, "BQML -> SUVbw"),
        ({"Units": "GML", "SUVType": "BW"}, True, "SUVbw (GML)"),
        ({"PatientWeight": None}, False, "Bq/mL only: PatientWeight is missing"),
        (
            {"RadiopharmaceuticalInformationSequence": radiopharmaceutical(RadionuclideTotalDose=None)},
            False,
            "Bq/mL only: RadionuclideTotalDose is missing",
        ),
    ],
)
def test_suv_description_of_a_pet(tmp_path: Path, attributes: dict[str, Any], has_suv: bool, suv: str) -> None:
    write_series(tmp_path, modality="PT", **attributes)
    found = only(tmp_path)
    assert (found.is_usable, found.has_suv, found.suv) == (True, has_suv, suv)


def test_pet_without_usable_units_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", Units="CNTS")
    found = only(tmp_path)
    assert not found.is_usable and "Units CNTS" in (found.reason or "")


def test_slices_that_disagree_about_the_dose_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", vary=lambda k: {"PatientWeight": 50.0 + (k == 3)})
    assert "slices disagree about units, weight, dose or times" in (only(tmp_path).reason or "")


def test_a_dose_in_mbq_is_a_warning_of_the_series(tmp_path: Path) -> None:
    in_mbq = radiopharmaceutical(RadionuclideTotalDose=400.0)
    write_series(tmp_path, modality="PT", RadiopharmaceuticalInformationSequence=in_mbq)
    found = only(tmp_path)
    assert found.has_suv and "RadionuclideTotalDose is 400 Bq" in found.warnings[0]


def test_derived_ct_gives_a_warning(tmp_path: Path) -> None:
    write_series(tmp_path, ImageType=["DERIVED", "PRIMARY", "AXIAL"])
    found = only(tmp_path)
    assert (found.is_usable, found.is_original) == (True, False)
    assert found.warnings == ("ImageType DERIVED: a reformatted or processed CT, not the original reconstruction",)


def test_lossy_series_gives_a_warning(tmp_path: Path) -> None:
    write_series(tmp_path, LossyImageCompression="01")
    assert "lossy compression" in only(tmp_path).warnings[0]


def test_different_rescaling_of_ct_slices_gives_a_warning(tmp_path: Path) -> None:
    write_series(tmp_path, vary=lambda k: {"RescaleIntercept": 0 if k == 2 else -1000})
    assert only(tmp_path).warnings == (
        "RescaleSlope and RescaleIntercept differ between the slices of one CT: 1 and -1000 in 4, 1 and 0 in 1",
    )


def test_the_slices_of_a_pet_have_each_their_own_slope(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", vary=lambda k: {"RescaleSlope": k + 1})
    assert not any("Rescale" in warning for warning in only(tmp_path).warnings)


def test_synthetic_pet_is_not_a_measured_pet(tmp_path: Path) -> None:
    write_series(
        tmp_path, modality="PT", ImageType=["DERIVED", "SECONDARY", "AXIAL"], SeriesDescription="SYNTHETIC PET"
    )
    found = only(tmp_path)
    assert found.is_synthetic and not found.is_usable
    assert "produced by a model, never used as a measured image" in (found.reason or "")


def test_two_patients_under_one_series_uid_are_two_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", PatientID="P2")
    assert [found.series.patient_id for found in scan_folder(tmp_path).series] == ["P1", "P2"]


def test_fusion_stored_as_ct_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "ct")
    write_series(
        tmp_path / "fusion", SeriesInstanceUID="1.2.3.1.7", SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        SeriesDescription="Range-CT WB <ALPHA Range>", SamplesPerPixel=3, PhotometricInterpretation="RGB",
        BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(6 * 8 * 3),
    )  # fmt: skip
    report = scan_folder(tmp_path)
    assert [found.series.uid for found in report.usable("CT")] == [CT]
    fusion = report.find("1.2.3.1.7")
    assert fusion is not None and "a colour image (Secondary Capture Image Storage, RGB)" in (fusion.reason or "")


def test_a_multi_frame_file_without_functional_groups_is_refused_by_name(tmp_path: Path) -> None:
    write_series(tmp_path, count=1, SOPClassUID=CT_CLASS + ".1", NumberOfFrames=2, PixelData=bytes(6 * 8 * 4))
    assert "multi-frame without PerFrameFunctionalGroupsSequence" in (only(tmp_path).reason or "")


def test_progress_reports_files_of_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib.dicom.scan.scan.PROGRESS_INTERVAL_FILES", 4)
    write_series(tmp_path / "a")
    write_series(tmp_path / "b", modality="PT", count=4)
    reported: list[tuple[int, int]] = []
    scan_folder(tmp_path, progress=lambda done, total, what: reported.append((done, total)))
    assert reported == [(4, 9), (8, 9), (9, 9)]


def test_empty_folder_gives_an_empty_report(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    report = scan_folder(tmp_path)
    assert report.series == ()
    with pytest.raises(StudiesError, match=r"no DICOM series found; 1 other file.*notes.txt: not a DICOM file"):
        require_series(report)


def test_no_patients_name_reaches_a_report(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path / "x", modality="PT", PatientWeight=None)
    assert "Secret" not in repr(scan_folder(tmp_path))


def test_moments_of_study_series_and_acquisition(tmp_path: Path) -> None:
    write_series(
        tmp_path,
        StudyDate="20260312", StudyTime="1405", SeriesDate="20260312", SeriesTime="141030.25", AcquisitionDate="",
    )  # fmt: skip
    assert only(tmp_path).moments == ("20260312140500", "20260312141030")
