"""Padding becomes air in a CT and NaN in a PET without affecting measured pixels, in every encoding."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from lib.dicom.read.pixels import read_slice
from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError, MissingAttributeError
from lib.imaging.field_of_view import mask_unmeasured
from tests.dicom.builders import COLUMNS, ROWS, instance, write_series

CORNER, INSIDE = (0, 0), (3, 4)  # one pixel of the outer padding, one of the body
PADDING, LIMIT = 0x00280120, 0x00280121


def slice_with(padded: int, body: int = 40, **attributes: Any) -> Any:
    """Return an instance with one value in the first row and the pixel INSIDE, and another value elsewhere."""
    dtype = np.int16 if attributes.get("PixelRepresentation", 1) else np.uint16
    pixels = np.full((ROWS, COLUMNS), body, dtype)
    pixels[0] = pixels[INSIDE] = np.array(padded).astype(dtype)
    return instance(0, **({"PixelData": pixels.tobytes()} | attributes))


def values_of(tmp_path: Path, dataset: Any) -> np.ndarray:
    path = tmp_path / "one.dcm"
    dataset.save_as(path, write_like_original=False)
    return read_slice(path).values


def test_padding_outside_the_ct_scale_is_air_everywhere(tmp_path: Path) -> None:
    dataset = slice_with(65535, PixelRepresentation=0, RescaleIntercept=-1024)
    dataset.add_new(PADDING, "US", 65535)
    values = values_of(tmp_path, dataset)
    assert (values[CORNER], values[INSIDE], values[1, 0]) == (-1024, -1024, 40 - 1024)


@pytest.mark.parametrize(
    ("padded", "intercept", "representation"),
    [
        (0, 0, 1),  # 0 HU is water
        (4095, -1024, 0),  # the top of 12 bits is metal
        (30710, 0, 1),  # the top of the extended scale
    ],
)
def test_plausible_padding_value_is_air_only_if_connected_to_a_corner(
    tmp_path: Path, padded: int, intercept: int, representation: int
) -> None:
    dataset = slice_with(padded, RescaleIntercept=intercept, PixelRepresentation=representation)
    dataset.add_new(PADDING, "US", padded)
    values = values_of(tmp_path, dataset)
    assert (values[CORNER], values[INSIDE]) == (-1024, padded + intercept)


def test_value_above_the_extended_scale_is_padding(tmp_path: Path) -> None:
    dataset = slice_with(30711, RescaleIntercept=0)
    dataset.add_new(PADDING, "US", 30711)
    assert values_of(tmp_path, dataset)[INSIDE] == -1024


@pytest.mark.parametrize(
    ("vr", "written"), [("US", 63536), ("SS", -2000)]
)  # both are the bytes 30 F8: 63536 - 65536 = -2000
def test_the_sign_of_padding_is_that_of_the_pixels(tmp_path: Path, vr: str, written: int) -> None:
    dataset = slice_with(-2000, RescaleIntercept=0)
    dataset.add_new(PADDING, vr, written)
    assert values_of(tmp_path, dataset)[INSIDE] == -1024


@pytest.mark.parametrize(("value", "limit"), [(100, 200), (200, 100)])
@pytest.mark.parametrize(("padded", "is_air"), [(99, False), (100, True), (150, True), (200, True), (201, False)])
def test_a_range_of_padding_is_inclusive_in_either_order(
    tmp_path: Path, value: int, limit: int, padded: int, is_air: bool
) -> None:
    dataset = slice_with(padded, RescaleIntercept=0)
    dataset.add_new(PADDING, "US", value)
    dataset.add_new(LIMIT, "US", limit)
    assert values_of(tmp_path, dataset)[CORNER] == (-1024 if is_air else padded)


def test_padding_limit_without_value_is_ignored(tmp_path: Path) -> None:
    dataset = slice_with(150, RescaleIntercept=0)
    dataset.add_new(LIMIT, "US", 200)
    assert values_of(tmp_path, dataset)[CORNER] == 150


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_padding_is_read_in_each_plain_encoding(tmp_path: Path, syntax: str) -> None:
    big = syntax == ExplicitVRBigEndian
    dataset = slice_with(65535, PixelRepresentation=0, RescaleIntercept=-1024)
    dataset.add_new(PADDING, "US", 65535)
    if big:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.is_implicit_VR, dataset.is_little_endian = not big, not big
    values = values_of(tmp_path, dataset)
    assert (values[CORNER], values[1, 0]) == (-1024, 40 - 1024)


def test_padding_that_does_not_fit_bits_stored_is_found_in_the_containers(tmp_path: Path) -> None:
    dataset = slice_with(65535, PixelRepresentation=0, RescaleIntercept=-1024, BitsStored=12, HighBit=11)
    dataset.add_new(PADDING, "US", 65535)
    values = values_of(tmp_path, dataset)
    assert (values[CORNER], values[1, 0]) == (-1024, 40 - 1024)


def test_pet_padding_connected_to_a_corner_is_nan(tmp_path: Path) -> None:
    dataset = slice_with(32767, modality="PT")  # each slice's largest number, and so that of its hottest voxel
    dataset.add_new(PADDING, "US", 32767)
    values = values_of(tmp_path, dataset)
    assert np.isnan(values[CORNER]) and values[INSIDE] == 32767


def test_a_pet_whose_padding_is_0_keeps_its_air(tmp_path: Path) -> None:
    dataset = slice_with(0, modality="PT")
    dataset.add_new(PADDING, "US", 0)
    values = values_of(tmp_path, dataset)
    assert (values[CORNER], values[INSIDE]) == (0, 0)


def test_pet_padding_stays_nan_after_resampling(tmp_path: Path) -> None:
    for k in range(12):
        dataset = slice_with(-1, modality="PT", SOPInstanceUID=f"1.2.3.{k}", ImagePositionPatient=[0, 0, 3.0 * k])
        dataset.add_new(PADDING, "SS", -1)
        dataset.save_as(tmp_path / f"{k}.dcm", write_like_original=False)
    (found,) = scan_folder(tmp_path).series
    pet = mask_unmeasured(read_pet(found.series))
    assert np.isnan(pet.array[:, 0]).all() and np.isfinite(pet.array[:, 1:]).all()


COMPRESSORS = [("dcmcrle",), ("dcmcjpeg",), ("dcmcjpls",)]


@pytest.mark.parametrize("compressor", COMPRESSORS, ids=" ".join)
@pytest.mark.parametrize("kind", ["signed 16", "unsigned 12", "signed 12", "a PET's slopes"])
def test_compressed_slices_are_padded_and_rescaled_as_plain_ones(
    tmp_path: Path, require_program: Callable[[str], str], compressor: tuple[str, ...], kind: str
) -> None:
    attributes: dict[str, Any] = {
        "signed 16": {"RescaleIntercept": 0},
        "unsigned 12": {"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11, "RescaleIntercept": -1024},
        "signed 12": {"BitsStored": 12, "HighBit": 11, "RescaleIntercept": 0},
        "a PET's slopes": {"modality": "PT", "RescaleSlope": 0.33, "RescaleIntercept": 7.25},
    }[kind]
    padded = {"signed 16": -2000, "unsigned 12": 4095, "signed 12": -2000, "a PET's slopes": 4095}[kind]
    dataset = slice_with(padded, **attributes)
    dataset.add_new(PADDING, "US", padded % 65536)
    plain, compressed = tmp_path / "plain.dcm", tmp_path / "compressed.dcm"
    dataset.save_as(plain, write_like_original=False)
    program = require_program(compressor[0])
    subprocess.run([program, *compressor[1:], "+un", plain, compressed], check=True, capture_output=True)
    assert dcmread(compressed).file_meta.TransferSyntaxUID.is_compressed
    a, b = read_slice(plain).values, read_slice(compressed).values
    assert np.array_equal(a, b, equal_nan=True)
    assert a[CORNER] == -1024 or np.isnan(a[CORNER])


def test_padding_of_a_ct_volume_is_clipped(tmp_path: Path) -> None:
    write_series(tmp_path, PixelPaddingValue=0, RescaleIntercept=-3024)
    (found,) = scan_folder(tmp_path).series
    assert read_ct(found.series).array.min() == -1024


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"BitsStored": 17, "HighBit": 16}, "BitsStored 17 and HighBit 16 do not fit BitsAllocated 16: damaged"),
        ({"BitsStored": 12, "HighBit": 10}, "BitsStored 12 and HighBit 10 do not fit"),
        ({"BitsStored": 0}, "BitsStored 0 and HighBit 15 do not fit"),
        ({"BitsAllocated": 12}, "BitsAllocated 12, expected 8, 16 or 32"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2, expected 0 or 1"),
        ({"PixelData": None, "FloatPixelData": b"\0" * 4 * ROWS * COLUMNS, "BitsAllocated": 32}, "FloatPixelData or"),
        ({"RescaleIntercept": None}, "RescaleIntercept is missing"),
    ],
)
def test_unsupported_pixel_formats_are_refused(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(DicomError, match=message):
        values_of(tmp_path, instance(0, **attributes))


def test_a_high_bit_above_the_stored_ones_is_honoured(tmp_path: Path) -> None:
    pixels = np.full((ROWS, COLUMNS), 100 << 4, np.int16)  # 12 bits at the top of 16
    dataset = instance(0, BitsStored=12, HighBit=15, RescaleIntercept=0, PixelData=pixels.tobytes())
    assert (values_of(tmp_path, dataset) == 100).all()


def test_missing_pixel_representation_is_refused_for_large_values(tmp_path: Path) -> None:
    sure = slice_with(32767, RescaleIntercept=0, PixelRepresentation=None)
    assert values_of(tmp_path, sure)[CORNER] == 32767
    with pytest.raises(MissingAttributeError, match="PixelRepresentation is missing"):
        values_of(tmp_path, slice_with(-1, RescaleIntercept=0, PixelRepresentation=None))


def test_compressed_pixels_with_an_odd_high_bit_are_refused(tmp_path: Path) -> None:
    dataset = instance(0, BitsStored=12, HighBit=15, PixelData=encapsulate([b"\0" * 64]))
    dataset.file_meta.TransferSyntaxUID = RLELossless
    with pytest.raises(DicomError, match="HighBit 15 of compressed pixels, expected 11"):
        values_of(tmp_path, dataset)


def test_monochrome1_has_the_same_values(tmp_path: Path) -> None:
    dark, light = (instance(0, PhotometricInterpretation=f"MONOCHROME{n}") for n in (1, 2))
    assert np.array_equal(values_of(tmp_path, dark), values_of(tmp_path, light))
