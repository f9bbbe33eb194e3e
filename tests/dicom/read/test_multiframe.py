"""A multi-frame CT or PET gives the same volume as its single-frame source, for any layout of frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from lib.dicom.acquisition import read_acquisition_details
from lib.dicom.read.multiframe import read_frame_headers
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.remote.json_header import slice_headers_from_json
from lib.dicom.scan import scan
from lib.dicom.scan.header_index import HeaderIndex
from lib.dicom.scan.scan import ScannedSeries, scan_folder
from lib.imaging.volume import Volume
from lib.pairing.pairs import pair_series
from lib.pairing.quality_checks.plausibility import check_pair
from tests.dicom.conftest import SLICES
from tests.dicom.enhanced import Kind, read_slices, write_multi_frame

READERS = {"CT": read_ct, "PT": read_pet}
FOLDERS = {"CT": "CT", "PT": "PET"}


@pytest.fixture(scope="module")
def single(study: Path) -> dict[str, tuple[ScannedSeries, Volume]]:
    """The single-frame series and their volumes, by modality."""
    report = scan_folder(study)
    found = {modality: report.usable(modality)[0] for modality in READERS}
    return {modality: (found[modality], READERS[modality](found[modality].series)) for modality in READERS}


def big_endian(dataset: FileDataset) -> None:
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID, dataset.is_little_endian = ExplicitVRBigEndian, False


def implicit(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID, dataset.is_implicit_VR = ImplicitVRLittleEndian, True


def deflated(dataset: FileDataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def undefined_lengths(dataset: FileDataset) -> None:
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        dataset[keyword].is_undefined_length = True


LAYOUTS: dict[str, dict[str, Any]] = {
    "in order": {},
    "shuffled": {"seed": 3},
    "over two files": {"files": 2, "seed": 4},
    "every macro per frame": {"per_frame": True},
    "RLE": {"rle": True, "seed": 5},
    "implicit": {"edit": implicit},
    "big endian": {"edit": big_endian},
    "deflated": {"edit": deflated},
    "undefined lengths": {"edit": undefined_lengths},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
@pytest.mark.parametrize("modality", READERS)
def test_the_volume_is_that_of_the_single_frame_series(
    study: Path,
    single: dict[str, tuple[ScannedSeries, Volume]],
    tmp_path: Path,
    modality: str,
    kind: Kind,
    layout: dict[str, Any],
) -> None:
    paths = write_multi_frame(read_slices(study / FOLDERS[modality]), tmp_path, kind=kind, **layout)
    report = scan_folder(tmp_path)
    (found,) = report.series
    before, volume = single[modality]
    assert (found.reason, found.warnings, found.suv, report.skipped) == (None, before.warnings, before.suv, ())
    assert (found.positions_mm, found.matrix) == (before.positions_mm, before.matrix)
    assert found.series.slice_count == SLICES and set(found.series.files) == set(paths)
    read = READERS[modality](found.series)
    assert (read.unit, read.array.dtype) == (volume.unit, np.float32)
    np.testing.assert_array_equal(read.geometry.affine, volume.geometry.affine)
    np.testing.assert_allclose(read.array, volume.array, rtol=1e-6)


def test_slopes_among_the_unassigned_attributes_count_frame_by_frame(
    study: Path, single: dict[str, tuple[ScannedSeries, Volume]], tmp_path: Path
) -> None:
    slices = read_slices(study / "PET")
    assert len({str(one.RescaleSlope) for one in slices}) == SLICES  # else one slope for all would pass
    write_multi_frame(slices, tmp_path, kind="legacy", rescale_unassigned=True, seed=6)
    found = scan_folder(tmp_path).usable("PT")[0]
    np.testing.assert_allclose(read_pet(found.series).array, single["PT"][1].array, rtol=1e-6)


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
def test_attributes_for_suv_and_ct_selection_are_found(study: Path, tmp_path: Path, kind: Kind) -> None:
    for modality, folder in FOLDERS.items():
        write_multi_frame(read_slices(study / folder), tmp_path / modality, kind=kind)
    report, before = scan_folder(tmp_path), scan_folder(study)
    pair, single_pair = pair_series(report).pairs[0], pair_series(before).pairs[0]
    assert pair.match(tolerance_mm=0.2).pairs == single_pair.match(tolerance_mm=0.2).pairs
    assert check_pair(pair) == check_pair(single_pair)  # reads some slices of the CT
    for found in report.series:
        same = before.find(found.series.uid)
        assert same is not None
        assert replace(found.series, files=same.series.files, frames=()) == same.series
        assert found.image_type[:2] == ("ORIGINAL", "PRIMARY")
    tracer = {"legacy": "Fluorodeoxyglucose F^18^", "enhanced": "Fluorodeoxyglucose F^18^"}[kind]
    assert read_acquisition_details(report.usable("PT")[0].series).tracer == tracer


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
@pytest.mark.parametrize("modality", READERS)
def test_index_stores_frames(
    study: Path, tmp_path: Path, modality: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies, index = tmp_path / "studies", tmp_path / "index"
    write_multi_frame(read_slices(study / FOLDERS[modality]), studies, kind=kind, files=2)
    (first,) = scan_folder(studies, index=HeaderIndex(index)).series
    monkeypatch.delattr(scan, "read_header")  # opening a file again fails
    (again,) = scan_folder(studies, index=HeaderIndex(index)).series
    assert (again.series, again.positions_mm, again.suv) == (first.series, first.positions_mm, first.suv)
    assert again.geometry is not None and first.geometry is not None
    assert again.geometry.same_grid_as(first.geometry) and again.warnings == first.warnings


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
@pytest.mark.parametrize("modality", READERS)
def test_dicom_json_equals_the_file(study: Path, tmp_path: Path, modality: str, kind: Kind) -> None:
    metadata: list[dict[str, Any]] = []

    def collect(dataset: FileDataset) -> None:
        del dataset.PixelData  # bulk data in a PACS
        metadata.append(dataset.to_json_dict())

    (path,) = write_multi_frame(read_slices(study / FOLDERS[modality])[::5], tmp_path, kind=kind, edit=collect)
    headers = slice_headers_from_json(metadata[0], str(path))
    assert [header.frame for header in headers] == [1, 2, 3, 4, 5]
    expected = [frame.header for frame in read_frame_headers(path)]
    plain = [replace(one, shared=replace(one.shared, transfer_syntax_uid="")) for one in expected]
    assert list(headers) == plain  # JSON has no file meta


@pytest.mark.parametrize("kind", ["legacy", "enhanced"])
def test_gdcm_reads_the_same_ct_at_the_same_place(study: Path, tmp_path: Path, kind: Kind) -> None:
    (path,) = write_multi_frame(read_slices(study / "CT"), tmp_path, kind=kind)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    image = reader.Execute()
    volume = read_ct(scan_folder(tmp_path).usable("CT")[0].series)
    assert image.GetDirection()[8] == -1  # the phantom is numbered from the head down; our stacks go up
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[::-1], volume.array)
    np.testing.assert_allclose(image.GetSpacing(), volume.geometry.spacing_mm[::-1], rtol=1e-6)
    last = image.TransformIndexToPhysicalPoint((0, 0, SLICES - 1))
    np.testing.assert_allclose(last, volume.geometry.origin_mm, atol=1e-4)


def test_unordered_and_thinned_series_is_read(study: Path, tmp_path: Path) -> None:
    write_multi_frame(read_slices(study / "CT"), tmp_path, kind="enhanced", files=3, seed=7)
    series = scan_folder(tmp_path).usable("CT")[0].series
    thinned, full = read_ct(series.every(4)), read_ct(series)
    assert series.every(4).slice_count == 6
    np.testing.assert_array_equal(thinned.array, full.array[::4])
