"""NRRD files written slice by slice are read by ITK as its own are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import OperationCancelledError
from lib.imaging.files.nrrd import write_nrrd
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.resample import to_sitk
from lib.imaging.volume import Unit, Volume


def volume() -> Volume:
    affine = np.diag([0.7, -0.8, 2.5, 1.0])
    affine[:3, 0] = [0.7 * np.cos(0.01), 0.7 * np.sin(0.01), 0]
    affine[:3, 1] = [0.8 * np.sin(0.01), -0.8 * np.cos(0.01), 0]
    affine[:3, 2] = [0, 0, -2.5]
    affine[:3, 3] = [-100.123456789, 5, 1 / 3]
    array = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
    return Volume(array, Geometry((3, 4, 5), affine), Unit.HU)


@pytest.mark.parametrize("level", [0, 1])
def test_header_and_voxels_are_those_that_itk_writes(tmp_path: Path, level: int) -> None:
    ours, itks = tmp_path / "ours.nrrd", tmp_path / "itks.nrrd"
    write_nrrd(volume(), ours, level=level)
    sitk.WriteImage(to_sitk(volume()), str(itks), useCompression=level > 0)
    header, _, _ = ours.read_bytes().partition(b"\n\n")
    assert header == itks.read_bytes().partition(b"\n\n")[0]
    a, b = (sitk.ReadImage(str(path)) for path in (ours, itks))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
    assert (a.GetOrigin(), a.GetSpacing(), a.GetDirection()) == (b.GetOrigin(), b.GetSpacing(), b.GetDirection())


def test_a_written_volume_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    path = write_volume_file(volume(), tmp_path / "ct.nrrd")
    back = read_volume_file(path, unit=Unit.HU)
    np.testing.assert_array_equal(back.array, volume().array)
    np.testing.assert_allclose(back.geometry.affine, volume().geometry.affine, atol=1e-12)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_writing_that_is_cancelled_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        assert (total, what) == (3, "writing")
        if done == 2:
            raise OperationCancelledError("cancelled")

    with pytest.raises(OperationCancelledError):
        write_volume_file(volume(), tmp_path / f"ct{suffix}", progress=cancel)
    assert list(tmp_path.iterdir()) == []
