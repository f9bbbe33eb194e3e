"""One slice of a CT, read without the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lib.dicom.read.single_slice import read_ct_slice
from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.errors import DicomError
from lib.types import Series, SliceSource
from tests.dicom.builders import write_series
from tests.dicom.enhanced import read_slices, write_multi_frame


def series_in(folder: Path) -> Series:
    (found,) = scan_folder(folder).usable("CT")
    return found.series


def test_a_slice_is_that_of_the_volume(study: Path, tmp_path: Path) -> None:
    write_multi_frame(read_slices(study / "CT"), tmp_path, kind="enhanced", files=2)
    for folder in (study / "CT", tmp_path):
        series = series_in(folder)
        whole = read_ct(series).array
        for k, source in enumerate(series.slices):
            np.testing.assert_array_equal(read_ct_slice(series, source, shape=whole.shape[1:]), whole[k])


def test_a_file_that_is_not_the_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "a", count=3)
    write_series(tmp_path / "b", count=3, SeriesInstanceUID="1.2.9.77")
    series, other = series_in(tmp_path / "a"), series_in(tmp_path / "b")
    source = series.slices[1]
    rows, columns = read_ct(series).array.shape[1:]
    with pytest.raises(DicomError, match=rf"a slice of {rows} x {columns} pixels, expected 5000 x 5000"):
        read_ct_slice(series, source, shape=(5000, 5000))
    with pytest.raises(DicomError, match=r"is of series 1\.2\.9\.77, CT"):
        read_ct_slice(series, other.slices[1], shape=(rows, columns))
    with pytest.raises(DicomError, match="cannot be opened"):
        read_ct_slice(series, SliceSource(tmp_path / "none.dcm", 0), shape=(rows, columns))
    source.path.write_bytes(source.path.read_bytes()[:-9])
    with pytest.raises(DicomError, match=source.path.name):
        read_ct_slice(series, source, shape=(rows, columns))
