"""Voxels and volumes of a size that no scanner gives are refused before a grid is made for them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lib.errors import ImageFileError, InputError
from lib.imaging.files.extent import extent_fault
from lib.imaging.files.memory_estimate import announced_shape, file_read_bytes, volume_bytes
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.grid import Grid
from lib.imaging.volume import Unit

NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
    "space directions: ({pixel},0,0) (0,{pixel},0) (0,0,{slice})\nspace origin: (0,0,0)\nendian: little\n"
    "encoding: raw\n\n"
)


def grid(shape: tuple[int, int, int], slice_mm: float, row_mm: float, column_mm: float) -> Geometry:
    return Geometry(shape, np.diag([column_mm, row_mm, slice_mm, 1.0]))


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (grid((300, 512, 512), 3, 0.98, 0.98), ""),
        (grid((6, 64, 64), 3.27, 6.4, 6.4), ""),  # a phantom's
        (grid((2100, 512, 512), 1, 1.37, 1.37), ""),
        (grid((8, 64, 64), 3, 160, 160), "rows are 160 mm apart, expected 0.05 to 16 mm"),
        (grid((8, 64, 64), 3, 1, 0.001), "columns are 0.001 mm apart"),
        (grid((8, 64, 64), 500, 1, 1), "slices are 500 mm apart, expected 0.05 to 150 mm"),
        (grid((8, 2000, 512), 1, 1, 1), "2000 rows extend over 2000 mm, expected at most 1200 mm"),
        (grid((400, 64, 64), 10, 1, 1), "400 slices extend over 4000 mm, expected at most 3000 mm"),
    ],
)
def test_a_grid_of_no_patient_is_named(geometry: Geometry, message: str) -> None:
    assert message in extent_fault(geometry) if message else extent_fault(geometry) == ""


def test_slices_are_those_of_the_patient_in_whatever_order_they_are_stored() -> None:
    sagittal = np.zeros((4, 4))
    sagittal[2, 0], sagittal[1, 1], sagittal[0, 2], sagittal[3, 3] = 20.0, 1.0, 1.0, 1.0  # columns along the body
    assert extent_fault(Geometry((64, 64, 30), sagittal)) == ""
    sagittal[2, 0], sagittal[0, 2] = 1.0, 20.0
    assert "columns are 20 mm apart" in extent_fault(Geometry((30, 64, 64), sagittal))


def test_a_small_file_of_huge_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(sizes="32 32 8", pixel=160, slice=3).encode() + bytes(2 * 32 * 32 * 8))
    with pytest.raises(ImageFileError, match=r"a\.nrrd: its rows are 160 mm apart"):
        read_volume_file(path, unit=Unit.HU)


@pytest.mark.parametrize(
    ("own", "recipe", "message"),
    [
        (grid((8, 64, 64), 3, 160, 160), Grid(pixel_mm=2.0), "8 x 5120 x 5120 pixels"),
        (grid((2000, 512, 512), 1, 2, 2), Grid(pixel_mm=0.4), "2000 x 2560 x 2560 pixels"),
        (grid((2000, 512, 512), 1, 2, 2), Grid(size=4096), "2000 x 4096 x 4096 pixels"),
    ],
)
def test_no_grid_is_larger_than_a_volume_that_is_read(own: Geometry, recipe: Grid, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"a grid of {message} is too large, expected at most 4096")):
        recipe.on(own)


def test_memory_is_estimated_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(NRRD.format(sizes="32 16 8", pixel=1, slice=3).encode() + bytes(2 * 32 * 16 * 8))
    assert announced_shape(path) == (8, 16, 32)
    assert volume_bytes((8, 16, 32)) == 8 * 16 * 32 * 4
    assert file_read_bytes(path) == 8 * 16 * 32 * (4 + 2)
    path.write_bytes(NRRD.format(sizes="32 16", pixel=1, slice=3).encode() + bytes(2 * 32 * 16))
    with pytest.raises(ImageFileError, match="2 dimensions; expected 3"):
        announced_shape(path)
