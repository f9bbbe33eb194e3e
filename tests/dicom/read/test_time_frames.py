"""Several slices at one position: time frames and equal parts are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import ScannedSeries, scan_folder
from tests.dicom.builders import write_series


def only(root: Path) -> ScannedSeries:
    (series,) = scan_folder(root).series
    return series


def frames(folder: Path, second: dict[str, Any], *, first: dict[str, Any], **attributes: Any) -> ScannedSeries:
    """Return a series of two frames of five slices each, with equal positions and different pixels."""

    def vary(k: int) -> dict[str, Any]:
        return {"ImagePositionPatient": [0, 0, 3.0 * (k % 5)], **(second if k >= 5 else first)}

    write_series(folder, count=10, vary=vary, **attributes)
    return only(folder)


@pytest.mark.parametrize("series_type", [["STATIC", "IMAGE"], ["WHOLE BODY", "IMAGE"], None])
@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("AcquisitionNumber", {"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ("FrameReferenceTime", {"FrameReferenceTime": 0}, {"FrameReferenceTime": 600_000}),
        ("AcquisitionTime", {"AcquisitionTime": "114000"}, {"AcquisitionTime": "115000"}),
        ("TemporalPositionIdentifier", {"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ("TriggerTime", {"TriggerTime": 0}, {"TriggerTime": 400}),
    ],
)
def test_time_frames_of_a_pet_are_refused(
    tmp_path: Path, name: str, first: dict[str, Any], second: dict[str, Any], series_type: list[str] | None
) -> None:
    found = frames(tmp_path, second, first=first, modality="PT", SeriesType=series_type)
    assert f"time frames (by {name}): slices at one position have several times" in (found.reason or "")


@pytest.mark.parametrize("name", ["TemporalPositionIdentifier", "TriggerTime"])
def test_phases_of_a_ct_are_refused(tmp_path: Path, name: str) -> None:
    found = frames(tmp_path, {name: 2}, first={name: 1}, RescaleType="HU")
    assert f"time frames (by {name})" in (found.reason or "")


def test_consecutive_beds_are_not_time_frames(tmp_path: Path) -> None:
    write_series(
        tmp_path, count=10, modality="PT",
        vary=lambda k: {"AcquisitionNumber": k // 5, "FrameReferenceTime": k // 5 * 120_000},
    )  # fmt: skip
    assert (only(tmp_path).is_usable, len(only(tmp_path).series.files)) == (True, 10)


@pytest.mark.parametrize("attribute", ["AcquisitionNumber", "ImageType"])
def test_equal_parts_of_a_ct_at_one_place_are_refused(tmp_path: Path, attribute: str) -> None:
    values = {"AcquisitionNumber": (1, 2), "ImageType": (["ORIGINAL"], ["DERIVED"])}[attribute]
    found = frames(tmp_path, {attribute: values[1]}, first={attribute: values[0]})
    assert f"2 stacks of 5 slices each in one series (by {attribute}): the intended one is unknown" in (
        found.reason or ""
    )


def test_equal_parts_of_a_ct_with_a_gap_between_are_refused(tmp_path: Path) -> None:
    write_series(
        tmp_path, count=10,
        vary=lambda k: {"AcquisitionNumber": k // 5, "ImagePositionPatient": [0, 0, 3.0 * k + 100 * (k // 5)]},
    )  # fmt: skip
    assert "2 stacks of 5 slices each" in (only(tmp_path).reason or "")


def test_equal_stacks_of_two_sizes_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, count=10, vary=lambda k: {"Rows": 4} if k >= 5 else {})
    assert "2 stacks of 5 slices each in one series (by matrix, pixel size or orientation)" in (
        only(tmp_path).reason or ""
    )
