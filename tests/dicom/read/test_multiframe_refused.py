"""Damaged, incomplete and unsuitable multi-frame files are refused with a reason."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.errors import DicomError
from tests.dicom.conftest import SLICES
from tests.dicom.enhanced import Kind, item, read_slices, write_multi_frame

Edit = Callable[[FileDataset], None]


def groups(dataset: FileDataset) -> list[Dataset]:
    return list(dataset.PerFrameFunctionalGroupsSequence)


def shared(dataset: FileDataset) -> Dataset:
    group: Dataset = dataset.SharedFunctionalGroupsSequence[0]
    return group


def announce(frames: int) -> Edit:
    def edit(dataset: FileDataset) -> None:
        dataset.NumberOfFrames = frames

    return edit


def drop_all_groups(dataset: FileDataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence


def drop_one_group(dataset: FileDataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[3]


def drop_place(dataset: FileDataset) -> None:
    del groups(dataset)[2].PlanePositionSequence


def drop_orientation(dataset: FileDataset) -> None:
    del shared(dataset).PlaneOrientationSequence


def drop_spacing(dataset: FileDataset) -> None:
    del shared(dataset).PixelMeasuresSequence


def drop_rescale(dataset: FileDataset) -> None:
    del shared(dataset).PixelValueTransformationSequence


def drop_frames(dataset: FileDataset) -> None:
    """Remove frames 5 to 7 with their pixels."""
    size = dataset.Rows * dataset.Columns * 2
    dataset.PixelData = dataset.PixelData[: 4 * size] + dataset.PixelData[7 * size :]
    del dataset.PerFrameFunctionalGroupsSequence[4:7]
    dataset.NumberOfFrames = SLICES - 3


def repeat_a_place(dataset: FileDataset) -> None:
    first, second = groups(dataset)[:2]
    second.PlanePositionSequence = first.PlanePositionSequence


def frame_type(value: str) -> Edit:
    def edit(dataset: FileDataset) -> None:
        sequence = shared(dataset).CTImageFrameTypeSequence
        sequence[0].FrameType = ["ORIGINAL", "PRIMARY", value, "NONE"]

    return edit


def projection_values(dataset: FileDataset) -> None:
    shared(dataset).CTImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "AXIAL", "MAX_IP"]


def volumetric(value: str) -> Edit:
    def edit(dataset: FileDataset) -> None:
        shared(dataset).CTImageFrameTypeSequence[0].VolumetricProperties = value

    return edit


def part(number: int, total: int) -> Edit:
    def edit(dataset: FileDataset) -> None:
        dataset.ConcatenationUID = "2.25.77"
        dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = number, total
        dataset.ConcatenationFrameOffsetNumber = 0

    return edit


REFUSED: dict[str, tuple[Edit, str]] = {
    "one frame too many announced": (announce(SLICES - 1), "NumberOfFrames 23, expected 24, the number of items"),
    "no frames announced": (announce(0), "NumberOfFrames 0, expected 24"),
    "no groups": (drop_all_groups, "multi-frame without PerFrameFunctionalGroupsSequence"),
    "a group lost": (drop_one_group, "NumberOfFrames 24, expected 23"),
    "a place lost": (drop_place, "ImagePositionPatient is missing in 1 of 24 slices"),
    "no orientation": (drop_orientation, "ImageOrientationPatient is missing"),
    "no spacing": (drop_spacing, "PixelSpacing is missing"),
    "no rescale": (drop_rescale, "RescaleSlope is missing"),
    "a gap": (drop_frames, "gap: no slice between"),
    "two frames at one position": (repeat_a_place, "1 of 24 slices have the position of another slice"),
    "a localizer": (frame_type("LOCALIZER"), "a localizer (ImageType LOCALIZER)"),
    "a MIP": (projection_values, "a projection (ImageType MAX_IP)"),
    "samples of a volume": (volumetric("SAMPLED"), "VolumetricProperties SAMPLED: a projection"),
    "a curved reformat": (volumetric("DISTORTED"), "VolumetricProperties DISTORTED: a curved reformat"),
}


def only(folder: Path) -> ScannedSeries:
    (found,) = scan_folder(folder).series
    return found


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED)
def test_a_ct_is_refused_with_the_reason(study: Path, tmp_path: Path, kind: Kind, edit: Edit, message: str) -> None:
    write_multi_frame(read_slices(study / "CT"), tmp_path, kind=kind, edit=edit)
    found = only(tmp_path)
    assert message in (found.reason or "usable")
    with pytest.raises(DicomError, match=found.series.uid):
        read_ct(found.series)


@pytest.mark.parametrize("rle", [False, True])
def test_truncated_file_is_refused(study: Path, tmp_path: Path, *, rle: bool) -> None:
    (path,) = write_multi_frame(read_slices(study / "CT"), tmp_path, kind="enhanced", rle=rle)
    series = only(tmp_path).series
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(DicomError, match=r"truncated|damaged"):
        read_ct(series)
    report = scan_folder(tmp_path)
    if not rle:  # compressed pixels are judged when they are decoded
        assert "truncated" in report.skipped[0].reason


def test_a_header_of_a_million_frames_costs_no_memory(study: Path, tmp_path: Path) -> None:
    slices = read_slices(study / "CT")[:4]
    for number, rle in enumerate((False, True)):
        write_multi_frame(slices, tmp_path / f"{number}", kind="enhanced", rle=rle, edit=announce(10**6))
    scan_folder(tmp_path)  # what is loaded once does not count
    tracemalloc.start()
    report = scan_folder(tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6
    assert "truncated" in report.skipped[0].reason
    (compressed,) = report.series
    assert "NumberOfFrames 1000000, expected 4" in (compressed.reason or "")
    with pytest.raises(DicomError, match=r"multi-frame \(1000000 frames\), expected one slice"):
        read_ct(compressed.series)  # refused before the decoder makes room for them


def test_complete_concatenation_is_one_volume(study: Path, tmp_path: Path) -> None:
    slices = read_slices(study / "CT")
    for number, piece in enumerate((slices[:10], slices[10:]), start=1):

        def edit(dataset: FileDataset, number: int = number) -> None:
            part(number, 2)(dataset)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.77.{number}"

        write_multi_frame(piece, tmp_path / f"{number}", kind="enhanced", edit=edit)
        if number == 1:
            assert only(tmp_path).reason == "part 2 of 2 of concatenation 2.25.77 is missing; send all its parts"
    assert (only(tmp_path).reason, only(tmp_path).series.slice_count) == (None, SLICES)


def test_a_copy_of_the_file_counts_once(study: Path, tmp_path: Path) -> None:
    (path,) = write_multi_frame(read_slices(study / "CT"), tmp_path, kind="legacy")
    (tmp_path / "copy.dcm").write_bytes(path.read_bytes())
    found = only(tmp_path)
    assert (found.reason, found.series.slice_count) == (None, SLICES)
    assert "1 duplicate file(s)" in found.warnings[0]


def test_second_orientation_is_ignored_with_a_warning(study: Path, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        for number, group in enumerate(groups(dataset)):
            cosines = [1, 0, 0, 0, 1, 0] if number < SLICES - 2 else [0, 1, 0, 0, 0, -1]
            group.PlaneOrientationSequence = [item(ImageOrientationPatient=cosines)]
        del shared(dataset).PlaneOrientationSequence

    write_multi_frame(read_slices(study / "CT"), tmp_path, kind="enhanced", edit=edit)
    found = only(tmp_path)
    assert (found.reason, found.series.slice_count) == (None, SLICES - 2)
    assert "2 instance(s) ignored: sagittal slices" in found.warnings[0]
    assert read_ct(found.series).geometry.shape == (SLICES - 2, 96, 96)


def test_time_frames_of_a_ct_are_named(study: Path, tmp_path: Path) -> None:
    slices = read_slices(study / "CT")[:6]

    def edit(dataset: FileDataset) -> None:
        for number, group in enumerate(groups(dataset)):
            group.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 6

    write_multi_frame([*slices, *slices], tmp_path, kind="enhanced", edit=edit)
    assert "time frames: it has one position at 2 times (TemporalPositionIndex)" in (only(tmp_path).reason or "")


def test_missing_frame_is_named(study: Path, tmp_path: Path) -> None:
    slices = read_slices(study / "CT")
    write_multi_frame(slices, tmp_path, kind="enhanced")
    series = only(tmp_path).series
    write_multi_frame(slices[:20], tmp_path, kind="enhanced")
    with pytest.raises(DicomError, match="frame 21 no longer exists; scan the folder again"):
        read_ct(series)


def test_padding_of_a_frame_is_air(study: Path, tmp_path: Path) -> None:
    def edit(dataset: FileDataset) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<i2").copy()
        pixels[:7] = -2000  # stored 16 bits signed, HU = stored - 1024
        dataset.PixelRepresentation, dataset.PixelData = 1, pixels.tobytes()

    write_multi_frame(read_slices(study / "CT"), tmp_path, kind="legacy", edit=edit)
    assert read_ct(only(tmp_path).series).array.min() == -1024
