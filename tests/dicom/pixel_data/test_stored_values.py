"""Pixel data that contradicts its header is refused; padding and unused bits are accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError
from tests.dicom.builders import ROWS, stored_pixels, write_series

LEFT_ALIGNED = (stored_pixels(0) << 4).astype(np.int16).tobytes()  # 12 bits, the topmost of 16


def read(folder: Path, **attributes: Any) -> np.ndarray:
    write_series(folder, **attributes)
    return np.asarray(read_ct(scan_folder(folder).usable("CT")[0].series).array)


@pytest.mark.parametrize("padding", [0, 2, 2 * ROWS - 2])
def test_padding_after_the_pixel_data_is_allowed(tmp_path: Path, padding: int) -> None:
    assert read(tmp_path, vary=lambda k: {"PixelData": stored_pixels(k).tobytes() + bytes(padding)}).shape == (5, 6, 8)


@pytest.mark.parametrize(
    "attributes", [{"Rows": 5}, {"Columns": 7}, {"Columns": 1}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}]
)
def test_excess_pixel_data_is_refused(tmp_path: Path, attributes: dict[str, Any]) -> None:
    with pytest.raises(DicomError, match="bytes of pixels more than expected by Rows"):
        read(tmp_path, **attributes)


def test_left_aligned_pixels_are_read(tmp_path: Path) -> None:
    array = read(tmp_path, BitsStored=12, HighBit=15, PixelData=LEFT_ALIGNED)
    np.testing.assert_array_equal(array[0], stored_pixels(0) - 1000)


def test_nonzero_bits_below_the_stored_bits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DicomError, match="BitsStored 12 and HighBit 15, but lower bits are not 0"):
        read(tmp_path, BitsStored=12, HighBit=15)


@pytest.mark.parametrize("bits", [8, 11, 13, 15])
def test_unusual_left_aligned_bits_are_refused(tmp_path: Path, bits: int) -> None:
    with pytest.raises(DicomError, match=f"HighBit 15, expected {bits - 1}, one below BitsStored {bits}"):
        read(tmp_path, BitsStored=bits, HighBit=15)
