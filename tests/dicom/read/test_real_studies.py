"""Real studies: comparison with independent counts and other software."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.read.volume import read_activity, read_ct, read_pet
from lib.dicom.scan.scan import ScanReport, scan_folder


@pytest.fixture(scope="module")
def report(shared_data: Path) -> ScanReport:
    return scan_folder(shared_data)


def test_everything_in_the_folder_is_found(report: ScanReport) -> None:
    assert (len(report.usable("CT")), len(report.usable("PT"))) == (37, 37)
    assert sum(len(found.series.files) for found in report.usable("CT")) == 2236 + 24
    assert sum(len(found.series.files) for found in report.usable("PT")) == 2235 + 267
    assert sum(found.series.modality == "RTSTRUCT" for found in report.series) == 36
    assert len(report.series) == 110


def test_no_usable_series_needs_a_warning(report: ScanReport) -> None:
    assert [found.warnings for found in report.series if found.warnings] == []


def test_suv_agrees_with_other_software(shared_data: Path) -> None:
    (raw,) = scan_folder(shared_data / "sts_raw" / "STS_001").usable("PT")
    (converted,) = scan_folder(shared_data / "sts" / "STS_001" / "PET").usable("PT")
    assert (raw.suv, converted.suv) == ("BQML -> SUVbw", "SUVbw (GML)")
    ours, theirs = read_pet(raw.series), read_pet(converted.series)
    corner = ours.geometry.to_voxel(np.array([theirs.geometry.origin_mm]))[0]
    c, r, k = np.round(corner).astype(int)
    assert corner == pytest.approx([c, r, k], abs=0.02)  # a crop on the same grid
    slices, rows, columns = theirs.array.shape
    cropped = ours.array[k : k + slices, r : r + rows, c : c + columns]
    tissue = theirs.array > 0.3
    ratio = cropped[tissue] / theirs.array[tissue]
    assert np.median(ratio) == pytest.approx(1, abs=1e-4)
    assert np.percentile(np.abs(ratio - 1), 99) < 2e-3


def test_the_bqml_series_has_a_slope_of_its_own_in_each_slice(shared_data: Path) -> None:
    (raw,) = scan_folder(shared_data / "sts_raw" / "STS_001").usable("PT")
    ours = read_activity(raw.series)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(raw.series.files[100])))  # GDCM rescales by itself
    assert np.allclose(ours.array[100], theirs[0], rtol=1e-6)
    assert ours.geometry.spacing_mm[0] == pytest.approx(3.27, abs=1e-4)


@pytest.mark.parametrize("patient", ["STS_001", "STS_037"])
def test_ct_position_agrees_with_simpleitk(sts_folder: Path, patient: str) -> None:
    (found,) = scan_folder(sts_folder / patient / "CT" / "image").usable("CT")
    ct = read_ct(found.series)
    image = sitk.ReadImage([str(path) for path in found.series.files])
    assert np.array_equal(ct.array, np.maximum(sitk.GetArrayFromImage(image), -1024))
    far = tuple(size - 1 for size in image.GetSize())
    world = ct.geometry.to_world(np.array([[0.0, 0.0, 0.0], far]))
    expected = [image.GetOrigin(), image.TransformIndexToPhysicalPoint(far)]
    assert np.abs(world - expected).max() < 0.01


def test_a_ct_of_the_papers_collection(shared_data: Path) -> None:
    (found,) = scan_folder(shared_data / "ct_only").usable("CT")
    ct = read_ct(found.series)
    assert ct.array.shape == (24, 512, 512)
    assert ct.geometry.spacing_mm[0] == pytest.approx(5.0)
    assert ct.array.min() == -1024
