"""DICOM SEG: packed bits, probabilities and label maps, gaps between frames, and damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from lib.dicom.read.segmentation import (
    LABEL_MAP_SEGMENTATION_STORAGE,
    SEGMENTATION_STORAGE,
    read_references,
    read_segmentation,
)
from lib.errors import DicomError, ImageFileError, InputError, UnsupportedSeriesError
from tests.dicom.builders import CT, FRAME, write_series

ROWS, COLUMNS = 3, 5  # 15 bits a frame: frames do not begin at a byte
LIVER, SPLEEN = 1, 2


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def masks() -> list[tuple[int, int, np.ndarray]]:
    """Return (segment, slice, mask): the liver on slices 0 and 3, the spleen on slice 1 and, below the liver, on 3."""
    random = np.random.default_rng(0)
    return [(segment, k, random.random((ROWS, COLUMNS)) < 0.5) for segment, k in ((1, 0), (2, 1), (1, 3), (2, 3))]


def segmentation(kind: str = "BINARY", **changes: Any) -> FileDataset:
    frames = masks()
    stored = np.stack([mask for _, _, mask in frames])
    dataset = FileDataset(None, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = LABEL_MAP_SEGMENTATION_STORAGE if kind == "LABELMAP" else SEGMENTATION_STORAGE
    dataset.SOPInstanceUID, dataset.FrameOfReferenceUID = "1.2.3.4", FRAME
    dataset.ReferencedSeriesSequence = Sequence([item(SeriesInstanceUID=CT)])
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SegmentationType = ROWS, COLUMNS, 4, kind
    dataset.BitsAllocated, dataset.MaximumFractionalValue = 1 if kind == "BINARY" else 8, 200
    dataset.SegmentSequence = Sequence(
        [item(SegmentNumber=LIVER, SegmentLabel="Liver"), item(SegmentNumber=SPLEEN, SegmentLabel="Spleen")]
    )
    dataset.SharedFunctionalGroupsSequence = Sequence([
        item(
            PixelMeasuresSequence=Sequence([item(PixelSpacing=[2, 1.5], SliceThickness=3)]),
            PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        )
    ])  # fmt: skip
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        item(
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[-10, -20, 100 + 3 * k])]),
            SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=segment)]),
        )
        for segment, k, _ in frames
    )
    if kind == "BINARY":
        dataset.PixelData = np.packbits(stored.ravel(), bitorder="little").tobytes()
    elif kind == "FRACTIONAL":
        dataset.PixelData = np.where(stored, 100, 99).astype(np.uint8).tobytes()  # half of the maximum is inside
    else:
        numbers = np.array([segment for segment, _, _ in frames])[:, None, None]
        dataset.PixelData = (stored * numbers).astype(np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def write(tmp_path: Path, dataset: FileDataset) -> Path:
    path = tmp_path / "seg"
    dataset.save_as(path, write_like_original=False)
    return path


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_type_gives_the_same_label_map(tmp_path: Path, kind: str) -> None:
    found = read_segmentation(write(tmp_path, segmentation(kind)))
    expected = np.zeros((4, ROWS, COLUMNS), np.uint16)
    for segment, k, mask in masks():
        expected[k][mask & (expected[k] == 0)] = segment  # where segments overlap, the first keeps the voxel
    assert found.organs.names == ("liver", "spleen")
    np.testing.assert_array_equal(found.organs.labels, expected)
    assert found.geometry.spacing_mm == (3.0, 2.0, 1.5) and found.geometry.origin_mm == (-10, -20, 100)


def test_frames_may_run_downwards(tmp_path: Path) -> None:
    dataset = segmentation()
    upward = read_segmentation(write(tmp_path, dataset))
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]
    downward = read_segmentation(write(tmp_path, dataset))
    assert downward.geometry.origin_mm == (-10, -20, 109)
    np.testing.assert_array_equal(downward.organs.labels, upward.organs.labels[::-1])


def test_references_name_the_series_and_the_frame(tmp_path: Path) -> None:
    references = read_references(write(tmp_path, segmentation()))
    assert references is not None
    assert (references.series_uids, references.frame_of_reference_uid) == ({CT}, FRAME)
    (tmp_path / "text").write_text("not DICOM")
    assert read_references(tmp_path / "text") is None
    write_series(tmp_path / "ct")
    assert read_references(next((tmp_path / "ct").iterdir())) is None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"PixelData": b"\0\1"}, DicomError, "pixel data end before frame 2"),
        ({"PixelData": b"\0" * 8}, ImageFileError, "no voxel of a named label"),
        ({"NumberOfFrames": 5}, DicomError, "5 frames with 4 descriptions"),
        ({"BitsAllocated": 16}, UnsupportedSeriesError, "BINARY of 16 bits"),
        ({"SegmentationType": "OTHER"}, UnsupportedSeriesError, "OTHER of 1 bits"),
        ({"Rows": None}, DicomError, "damaged DICOM SEG"),
        ({"SegmentSequence": None}, ImageFileError, "0 values have a name"),
    ],
)
def test_damaged_and_unknown_files_are_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[InputError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_segmentation(write(tmp_path, segmentation(**changes)))


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ([-10, -20, 104.4], "not slices at regular distances"),
        ([-9, -20, 103], "not slices at regular distances"),
        ([-10, -20, 9e9], "extend over|not slices|more than any CT"),
        ([-10, -20, float("nan")], "is not finite"),
    ],
)
def test_frames_that_are_no_stack_are_refused(tmp_path: Path, position: list[float], message: str) -> None:
    dataset = segmentation()
    dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = position
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3
    with pytest.raises(InputError, match=message):
        read_segmentation(write(tmp_path, dataset))


def test_compressed_frames_are_refused(tmp_path: Path) -> None:
    dataset = segmentation()
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(UnsupportedSeriesError, match="compressed segmentation"):
        read_segmentation(write(tmp_path, dataset))
