"""Reading of series as volumes: values, units and positions, or an error that names the series."""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from lib.dicom.read.volume import read_activity, read_ct, read_ct_slab, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError, MissingAttributeError, SliceOrderError, UnsupportedSeriesError
from lib.imaging.volume import Unit
from lib.types import Series
from tests.dicom.builders import COLUMNS, CT, PET, ROWS, instance, stored_pixels, write_series

STORED = np.stack([stored_pixels(k) for k in range(5)]).astype(np.float32)


def series_of(folder: Path, modality: str = "CT") -> Series:
    (found,) = scan_folder(folder).usable(modality)
    return found.series


def test_a_ct_is_in_hu_on_its_grid(tmp_path: Path) -> None:
    write_series(tmp_path)
    ct = read_ct(series_of(tmp_path))
    assert ct.unit is Unit.HU
    assert np.array_equal(ct.array, STORED - 1000)
    assert (ct.geometry.spacing_mm, ct.geometry.origin_mm) == ((3.0, 2.0, 1.5), (-10.0, -20.0, 100.0))


@pytest.mark.parametrize("slices", [slice(0, 2), slice(1, 4), slice(3, 5)])
def test_a_slab_is_read_without_the_other_slices(tmp_path: Path, slices: slice) -> None:
    files = write_series(tmp_path)
    series = series_of(tmp_path)
    whole = read_ct(series)
    for k in set(range(5)) - set(range(slices.start, slices.stop)):
        files[k].unlink()
    slab = read_ct_slab(series, slices, geometry=whole.geometry)
    assert np.array_equal(slab.array[slices], whole.array[slices])
    assert np.count_nonzero(slab.array) == np.count_nonzero(whole.array[slices])
    assert np.array_equal(slab.geometry.affine, whole.geometry.affine)


def test_a_slab_that_has_moved_since_the_listing_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path)
    series = series_of(tmp_path)
    geometry = read_ct(series).geometry
    write_series(tmp_path, vary=lambda k: {"ImagePositionPatient": [-10, -20, 101 + 3 * k]})
    with pytest.raises(DicomError, match="its slices have moved; scan the folder again"):
        read_ct_slab(series, slice(1, 4), geometry=geometry)


def test_voxel_positions_agree_with_simpleitk(tmp_path: Path) -> None:
    files = write_series(tmp_path, ImageOrientationPatient=[0.9877, 0.1564, 0, -0.1564, 0.9877, 0])
    ct = read_ct(series_of(tmp_path))
    image = sitk.ReadImage([str(path) for path in files])  # GDCM: an independent reader
    assert np.array_equal(ct.array, sitk.GetArrayFromImage(image))
    for voxel in ((0, 0, 0), (7, 5, 4), (3, 0, 2)):
        expected = image.TransformIndexToPhysicalPoint(voxel)
        assert ct.geometry.to_world(np.array([voxel], float))[0] == pytest.approx(expected, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 8), head_first=st.booleans())
def test_shuffled_files_give_the_same_volume(seed: int, count: int, head_first: bool) -> None:
    orientation = [1, 0, 0, 0, 1 if head_first else -1, 0]
    names = [f"{n:03d}.dcm" for n in range(count)]
    random.Random(seed).shuffle(names)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_series(root / "a", count=count, ImageOrientationPatient=orientation)
        write_series(root / "b", count=count, ImageOrientationPatient=orientation, names=names.__getitem__)
        a, b = read_ct(series_of(root / "a")), read_ct(series_of(root / "b"))
    assert np.array_equal(a.array, b.array)
    assert a.geometry.same_grid_as(b.geometry)
    first = 0 if head_first else count - 1  # the normal points to the feet when columns run upwards
    assert np.array_equal(a.array[0], stored_pixels(first) - 1000)


def test_order_of_files_is_ignored(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    series = series_of(tmp_path)
    shuffled = Series(
        series.uid,
        series.study_uid,
        "P1",
        "CT",
        series.frame_of_reference_uid,
        "",
        tuple(files[i] for i in (3, 0, 4, 1, 2)),
    )
    assert np.array_equal(read_ct(shuffled).array, STORED - 1000)


def test_slope_and_intercept_are_those_of_each_slice(tmp_path: Path) -> None:
    write_series(tmp_path, vary=lambda k: {"RescaleSlope": 1 + k, "RescaleIntercept": -10 * k})
    expected = np.stack([np.maximum(STORED[k] * (1 + k) - 10 * k, -1024) for k in range(5)])
    assert np.array_equal(read_ct(series_of(tmp_path)).array, expected)


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_is_clipped_to_air(tmp_path: Path, padding: int) -> None:
    pixels = np.full((ROWS, COLUMNS), padding, np.int16)
    pixels[2, 3] = 40
    write_series(tmp_path, RescaleIntercept=0, PixelData=pixels.tobytes())
    array = read_ct(series_of(tmp_path)).array
    assert (array.min(), array.max(), (array == -1024).sum()) == (-1024, 40, 5 * (ROWS * COLUMNS - 1))


def test_a_pet_in_bqml_becomes_suv(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", vary=lambda k: {"RescaleSlope": 10.0 + k})
    series = series_of(tmp_path, "PT")
    bqml = STORED * (10.0 + np.arange(5))[:, None, None]
    activity, suv = read_activity(series), read_pet(series)
    assert (activity.unit, suv.unit) == (Unit.BQML, Unit.SUV_BW)
    assert np.allclose(activity.array, bqml, rtol=1e-6)
    assert np.allclose(suv.array, bqml * 50_000 / 2e8, rtol=1e-6)  # 50 kg; 400 MBq, one half-life: 200 MBq


def test_a_pet_in_suv_stays_as_it_is(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", Units="GML", SUVType="BW", RescaleSlope=0.001)
    series = series_of(tmp_path, "PT")
    assert np.allclose(read_pet(series).array, STORED * 0.001, rtol=1e-6)
    with pytest.raises(UnsupportedSeriesError, match=f"series {PET}: Units GML, expected BQML"):
        read_activity(series)


def test_without_a_weight_there_is_activity_and_no_suv(tmp_path: Path) -> None:
    write_series(tmp_path, modality="PT", PatientWeight=None)
    series = series_of(tmp_path, "PT")
    assert np.array_equal(read_activity(series).array, STORED)
    with pytest.raises(MissingAttributeError, match=f"series {PET}: PatientWeight is missing"):
        read_pet(series)


def test_philips_counts_become_suv_and_activity(tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    for k in range(5):
        dataset = instance(k, modality="PT", Units="CNTS")
        dataset.add_new(0x70530010, "LO", "Philips PET Private Group")
        dataset.add_new(0x70531000, "DS", "0.5")
        dataset.add_new(0x70531009, "DS", "4")
        dataset.save_as(tmp_path / f"{k}.dcm", write_like_original=False)
    series = series_of(tmp_path, "PT")
    assert np.array_equal(read_pet(series).array, STORED * 0.5)
    assert np.array_equal(read_activity(series).array, STORED * 4)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_each_plain_encoding(tmp_path: Path, syntax: str) -> None:
    for k in range(5):
        dataset = instance(k)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.is_implicit_VR, dataset.is_little_endian = (
            syntax == ImplicitVRLittleEndian,
            syntax != ExplicitVRBigEndian,
        )
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = stored_pixels(k).astype(">i2").tobytes()
        dataset.save_as(tmp_path / f"{k}.dcm", write_like_original=False)
    assert np.array_equal(read_ct(series_of(tmp_path)).array, STORED - 1000)


@pytest.mark.parametrize(
    ("bits", "stored", "signed", "raw", "value"),
    [
        (8, 8, 0, 200, 200),
        (16, 16, 0, 40000, 40000),
        (16, 12, 0, 0xF123, 0x123),  # an overlay in the four spare bits
        (16, 12, 1, 0x0FFF, -1),  # the sign is bit 11
        (32, 32, 1, 0xFFFFFFFE, -2),
    ],
)
def test_each_way_to_store_a_number(tmp_path: Path, bits: int, stored: int, signed: int, raw: int, value: int) -> None:
    write_series(
        tmp_path, BitsAllocated=bits, BitsStored=stored, HighBit=stored - 1, PixelRepresentation=signed,
        RescaleIntercept=0, PixelData=np.full((ROWS, COLUMNS), raw, f"<u{bits // 8}").tobytes(),
    )  # fmt: skip
    assert np.array_equal(read_ct(series_of(tmp_path)).array, np.full((5, ROWS, COLUMNS), value))


COMPRESSORS: list[tuple[str, ...]] = [
    ("dcmcjpeg", "+e1"), ("dcmcjpeg", "+el"), ("dcmcjpls", "+el"), ("dcmcrle",),
]  # fmt: skip


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=" ".join)
@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_lossless_compression_is_undone(
    tmp_path: Path, require_program: Callable[[str], str], compressor: tuple[str, ...], modality: str
) -> None:
    plain, compressed = tmp_path / "plain", tmp_path / "compressed"
    compressed.mkdir()
    slopes: dict[str, Any] = {"vary": lambda k: {"RescaleSlope": 0.37 + k}} if modality == "PT" else {}
    for path in write_series(plain, modality=modality, **slopes):
        program = require_program(compressor[0])
        subprocess.run([program, *compressor[1:], "+un", path, compressed / path.name], check=True, capture_output=True)
    read = read_ct if modality == "CT" else read_activity
    a, b = read(series_of(plain, modality)), read(series_of(compressed, modality))
    assert np.allclose(a.array, b.array, rtol=1e-6)
    assert a.geometry.same_grid_as(b.geometry)


def test_compression_that_cannot_be_undone_is_named(tmp_path: Path) -> None:
    for k in range(2):
        dataset = instance(k)
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.PixelData = (
            b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\x08\0\0\0not rle!" + b"\xfe\xff\xdd\xe0\0\0\0\0"
        )
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(tmp_path / f"{k}.dcm", write_like_original=False)
    with pytest.raises(DicomError, match=rf"series {CT}: 0.dcm: its compression \(RLE Lossless\) is damaged"):
        read_ct(series_of(tmp_path))


def test_file_truncated_after_the_scan_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    series = series_of(tmp_path)
    files[3].write_bytes(files[3].read_bytes()[:-10])
    with pytest.raises(DicomError, match=rf"series {CT}: 003.dcm: truncated, 86 of 96 bytes of pixels"):
        read_ct(series)


def test_file_removed_after_the_scan_is_named(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    series = series_of(tmp_path)
    files[3].unlink()
    with pytest.raises(DicomError, match=rf"series {CT}: 003.dcm: cannot be opened .*scan the folder again"):
        read_ct(series)


def test_a_file_of_another_series_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path)
    series = series_of(tmp_path)
    write_series(tmp_path, count=1, SeriesInstanceUID="9.9.9")
    with pytest.raises(DicomError, match=r"000.dcm: now of series 9.9.9; scan the folder again"):
        read_ct(series)


def test_missing_file_in_the_stack_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path)
    complete = series_of(tmp_path)
    incomplete = Series(
        complete.uid, complete.study_uid, "P1", "CT", complete.frame_of_reference_uid, "", (*files[:2], *files[3:])
    )
    with pytest.raises(SliceOrderError, match=f"series {CT}: gap: no slice between 103.00 and 109.00 mm"):
        read_ct(incomplete)


def test_ct_is_not_read_as_pet(tmp_path: Path) -> None:
    write_series(tmp_path)
    with pytest.raises(UnsupportedSeriesError, match=f"series {CT}: modality CT, expected PT"):
        read_pet(series_of(tmp_path))


def test_a_synthetic_pet_is_not_read_as_a_measured_one(tmp_path: Path) -> None:
    attributes = {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "SYNTHETIC PET", "Units": "GML"}
    files = write_series(tmp_path, modality="PT", **attributes)
    with pytest.raises(UnsupportedSeriesError, match="synthetic PET"):
        read_pet(Series(PET, "1", "P1", "PT", "1", "", tuple(files)))


@pytest.mark.filterwarnings("ignore")  # pydicom wonders about what it reads; so it should
@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_raise_project_errors(tmp_path: Path, seed: int) -> None:
    """Random changes of bytes raise no other error than DicomError."""
    chance = random.Random(seed)
    files = write_series(tmp_path / "ct", count=3) + write_series(tmp_path / "pet", count=3, modality="PT")
    for path in chance.sample(files, 3):
        content = bytearray(path.read_bytes())
        for _ in range(4):
            content[chance.randrange(128, len(content))] = chance.choice([0, 255, ord("\\"), chance.randrange(256)])
        path.write_bytes(content[: chance.choice([None, None, None, chance.randrange(len(content))])])
    report = scan_folder(tmp_path)
    for found in report.usable("CT") + report.usable("PT"):
        read = read_ct if found.series.modality == "CT" else read_activity
        with contextlib.suppress(DicomError):
            assert read(found.series).array.shape[0] == len(found.series.files)


def test_slices_that_are_stored_in_different_ways_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, vary=lambda k: {"PixelRepresentation": 0} if k == 2 else {})
    (found,) = scan_folder(tmp_path).series
    with pytest.raises(DicomError, match="its slices differ in PixelRepresentation"):
        read_ct(found.series)
