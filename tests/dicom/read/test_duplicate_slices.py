"""Duplicate slices are compared by content: copies are used once, other measurements are never dropped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from lib.dicom.read.duplicate_slices import PixelsUnavailableError, drop_resent_slices
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.dicom.scan.series import judge_series
from tests.dicom.builders import CT, FRAME, instance, stored_pixels, write_series


def only(root: Path) -> ScannedSeries:
    (series,) = scan_folder(root).series
    return series


def send_again(folder: Path, numbers: range = range(5), **attributes: Any) -> None:
    """Write slices again with other SOPInstanceUIDs, in files that sort after the first ones."""
    for k in numbers:
        new = {"SOPInstanceUID": f"1.2.99.{k}"} | attributes
        instance(k, **new).save_as(folder / f"x{k}.dcm", write_like_original=False)


def test_a_series_sent_twice_under_new_uids_is_used_once(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    send_again(tmp_path)
    found = only(tmp_path)
    assert found.series.files == tuple(files)
    assert found.warnings == (
        "5 slice(s) sent again under another SOPInstanceUID, with equal position and pixels; the first in path order "
        "is used",
    )
    assert np.array_equal(read_ct(found.series).array, [stored_pixels(k) - 1000.0 for k in range(5)])


def test_half_a_series_sent_twice_is_used_once(tmp_path: Path) -> None:
    files = write_series(tmp_path, modality="PT", RescaleSlope=2.0)
    send_again(tmp_path, range(2, 4), modality="PT", RescaleSlope=2.0)
    found = only(tmp_path)
    assert found.series.files == tuple(files) and found.has_suv
    assert "2 slice(s) sent again" in found.warnings[0]
    assert read_pet(found.series).geometry.shape[0] == 5


def test_a_copy_in_another_encoding_is_a_copy(tmp_path: Path) -> None:
    write_series(tmp_path)
    for k in range(5):
        dataset = instance(k, SOPInstanceUID=f"1.2.99.{k}", RescaleSlope=0.5, RescaleIntercept=-1000)
        dataset.PixelData = (2 * stored_pixels(k)).tobytes()
        dataset.save_as(tmp_path / f"x{k}.dcm", write_like_original=False)
    assert only(tmp_path).is_usable


@pytest.mark.parametrize(
    "other",
    [
        {"PixelData": bytes(96)},
        {"RescaleIntercept": -999},
        {"RescaleSlope": 1.001},
        {"TemporalPositionIdentifier": 2},
        {"ImagePositionPatient": [-10, -19, 106]},
    ],
)
def test_series_with_one_different_slice_is_not_a_copy(tmp_path: Path, other: dict[str, Any]) -> None:
    write_series(tmp_path)
    send_again(tmp_path, range(2))
    send_again(tmp_path, range(2, 3), **other)
    assert not only(tmp_path).is_usable


def test_equal_pixels_at_another_time_are_not_copies(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", PixelData=bytes(96), FrameReferenceTime=0)
    send_again(tmp_path, modality="PT", PixelData=bytes(96), FrameReferenceTime=600_000)
    assert "time frames (by FrameReferenceTime)" in (only(tmp_path).reason or "")


def test_different_pixels_at_one_position_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path)
    send_again(tmp_path, PixelData=bytes(96))
    assert "5 of 10 slices have the position of another slice" in (only(tmp_path).reason or "")


def test_one_uid_at_two_positions_is_two_slices(tmp_path: Path) -> None:
    write_series(tmp_path, vary=lambda k: {"SOPInstanceUID": f"{CT}.7"} if k in (1, 3) else {})
    found = only(tmp_path)
    assert (found.is_usable, len(found.series.files)) == (True, 5)
    assert "1 slice(s) with the SOPInstanceUID of a slice at another position; both are used" in found.warnings[0]


@pytest.mark.parametrize(("step_mm", "count"), [(0.009, 5), (0.011, 6)])
def test_position_tolerance(tmp_path: Path, step_mm: float, count: int) -> None:
    write_series(tmp_path)
    shifted = instance(4, ImagePositionPatient=[-10, -20, 112 + step_mm])
    shifted.save_as(tmp_path / "x.dcm", write_like_original=False)
    found = only(tmp_path)
    assert len(found.series.files) == count
    assert found.is_usable is (count == 5)  # as two slices they are not 3 mm apart


def test_one_uid_at_one_position_with_different_pixels_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path)
    instance(2, PixelData=bytes(96)).save_as(tmp_path / "x.dcm", write_like_original=False)
    assert "one SOPInstanceUID and position, and different pixels (002.dcm, x.dcm)" in (only(tmp_path).reason or "")


def test_one_uid_with_two_weights_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT")
    instance(2, modality="PT", PatientWeight=51).save_as(tmp_path / "x.dcm", write_like_original=False)
    assert "headers that disagree (002.dcm, x.dcm)" in (only(tmp_path).reason or "")


def test_copied_folder_is_used_once(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found = only(tmp_path)
    assert found.series.files == tuple(files)
    assert "5 duplicate file(s)" in found.warnings[0]


def headers_of_a_pacs(tmp_path: Path, write: Callable[[Path], object]) -> list[Any]:
    """Return headers whose files are not on this machine."""
    write(tmp_path)
    headers = [header for found in [scan_headers(tmp_path)] for header in found]
    shutil.rmtree(tmp_path)
    return headers


def scan_headers(folder: Path) -> list[Any]:
    from lib.dicom.read.header import read_header

    return [read_header(path) for path in sorted(folder.glob("*.dcm"))]


def test_copies_without_files_are_refused(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        write_series(folder)
        send_again(folder)

    headers = headers_of_a_pacs(tmp_path / "pacs", write)
    with pytest.raises(PixelsUnavailableError):
        drop_resent_slices(headers)
    assert "remove one of each from the PACS" in (judge_series(headers).reason or "")


def test_an_instance_that_a_pacs_lists_twice_is_one(tmp_path: Path) -> None:
    headers = headers_of_a_pacs(tmp_path / "pacs", write_series)
    found = judge_series([*headers, headers[2]])
    assert found.is_usable and len(found.series.files) == 5


def test_two_slices_of_a_pacs_under_one_uid_are_refused(tmp_path: Path) -> None:
    headers = headers_of_a_pacs(tmp_path / "pacs", write_series)
    from dataclasses import replace

    stray = replace(headers[2], position_mm=(-10.0, -20.0, 115.0))
    assert "belongs to two slices at different positions" in (judge_series([*headers, stray]).reason or "")


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        (lambda k: {"FrameOfReferenceUID": FRAME + (".1" if k > 2 else "")},
         "2 frames of reference in one series (3 slices in 1.2.3.1.9, 2 slices in 1.2.3.1.9.1)"),
        (lambda k: {"FrameOfReferenceUID": None if k == 2 else FRAME},
         "FrameOfReferenceUID is missing in 1 of 5 slices"),
        (lambda k: {"RescaleType": "HU" if k else "US"}, "slices of RescaleType HU and US in one stack"),
        (lambda k: {"PatientID": "P1" if k < 3 else "P2"}, "its files have 2 different PatientIDs, expected one"),
        (lambda k: {"StudyInstanceUID": "1.2.3.1" if k % 2 else "1.2.3.2"}, "its files belong to 2 studies"),
    ],
)  # fmt: skip
def test_slices_with_contradictory_series_attributes_are_refused(
    tmp_path: Path, vary: Callable[[int], dict[str, Any]], message: str
) -> None:
    write_series(tmp_path, vary=vary)
    assert message in (only(tmp_path).reason or "")


def test_series_without_frame_of_reference_is_accepted(tmp_path: Path) -> None:
    write_series(tmp_path, FrameOfReferenceUID=None)
    assert only(tmp_path).is_usable


def test_differing_attributes_of_pet_slices_are_named(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", vary=lambda k: {"Units": "BQML" if k else "CNTS"})
    assert "its slices disagree about units, weight, dose or times; expected the same values in all slices (units)" in (
        only(tmp_path).reason or ""
    )


def test_the_copy_that_is_kept_is_the_same_in_every_scan(tmp_path: Path) -> None:
    write_series(tmp_path)
    send_again(tmp_path)
    kept = [dcmread(path).SOPInstanceUID for path in only(tmp_path).series.files]
    assert kept == [f"{CT}.{k + 1}" for k in range(5)]
