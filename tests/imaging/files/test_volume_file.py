"""Volume files: a written volume is read unchanged, and other programs agree."""

import resource
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lib.errors import ImageFileError, OutputError
from lib.imaging.files.volume_file import FAST, STORED, read_volume_file, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume


@pytest.fixture
def oblique() -> Volume:
    turn = np.deg2rad(20)
    orientation = (np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0)
    geometry = Geometry.from_dicom(
        (3, 4, 5),
        first_position_mm=(-7, 11, 13),
        orientation=orientation,
        pixel_spacing_mm=(2, 1.5),
        slice_spacing_mm=3,
    )
    return Volume(np.random.default_rng(0).random((3, 4, 5)).astype(np.float32), geometry, Unit.SUV_BW)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_what_is_written_is_read(oblique: Volume, tmp_path: Path, suffix: str) -> None:
    path = write_volume_file(oblique, tmp_path / f"pet{suffix}")
    again = read_volume_file(path, unit=Unit.SUV_BW)
    np.testing.assert_array_equal(again.array, oblique.array)
    np.testing.assert_allclose(again.geometry.affine, oblique.geometry.affine, atol=2e-6)


def test_nibabel_sees_ras(oblique: Volume, tmp_path: Path) -> None:
    affine = nibabel.load(write_volume_file(oblique, tmp_path / "pet.nii.gz")).affine
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ affine, oblique.geometry.affine, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_left_handed_file_keeps_its_slices_where_they_are(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    image.SetSpacing((1, 1, 5))
    sitk.WriteImage(image, str(tmp_path / f"left{suffix}"))
    volume = read_volume_file(tmp_path / f"left{suffix}", unit=Unit.HU)
    np.testing.assert_array_equal(volume.array.ravel(), np.arange(24))
    # voxel (0, 0, 0) of the file lies at z = 0, the second slice at z = -5
    np.testing.assert_allclose(volume.geometry.to_world(np.array([[0.0, 0, 0], [0, 0, 1]]))[:, 2], [0, -5])
    again = sitk.ReadImage(str(write_volume_file(volume, tmp_path / f"again{suffix}")))
    np.testing.assert_allclose(again.GetDirection(), image.GetDirection(), atol=1e-6)


def test_only_the_new_file_is_left(oblique: Volume, tmp_path: Path) -> None:
    write_volume_file(oblique, tmp_path / "pet.nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["pet.nrrd"]


def _colour(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 3), np.uint8), isVector=True), str(path))


def _flat(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.float32)), str(path))


def _not_a_number(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), np.nan, np.float32)), str(path))


def _junk(path: Path) -> None:
    path.write_bytes(b"not an image at all")


@pytest.mark.parametrize(
    ("make", "message"),
    [(_colour, "colour"), (_flat, "dimensions, expected 3"), (_not_a_number, "NaN"), (_junk, "cannot be read")],
)
def test_what_is_no_volume_is_refused(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "x.nrrd")  # type: ignore[operator]
    with pytest.raises(ImageFileError, match=message):
        read_volume_file(tmp_path / "x.nrrd", unit=Unit.HU)


def test_unknown_suffix_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"\.nii\.gz, \.nii, \.nrrd, \.mha"):
        read_volume_file(tmp_path / "x.png", unit=Unit.HU)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond 1 MB: the closest to a full disk that needs no other disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("compression", [STORED, FAST])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_a_full_disk_leaves_nothing_half_written(
    full_disk: None, tmp_path: Path, suffix: str, compression: int
) -> None:
    noise = np.random.default_rng(0).normal(size=(40, 128, 128)).astype(np.float32)
    volume = Volume(noise, Geometry(noise.shape, np.eye(4)), Unit.SUV_BW)
    with pytest.raises(OutputError, match="cannot be written; is the disk full"):
        write_volume_file(volume, tmp_path / f"pet{suffix}", compression=compression)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_compression_changes_the_size_alone(tmp_path: Path, suffix: str) -> None:
    ramp = np.arange(3 * 64 * 64, dtype=np.float32).reshape(3, 64, 64) // 16
    volume = Volume(ramp, Geometry(ramp.shape, np.diag([0.7, 0.8, 3, 1])), Unit.SUV_BW)
    stored, packed = (
        write_volume_file(volume, tmp_path / f"{level}{suffix}", compression=level) for level in (STORED, FAST)
    )
    assert packed.stat().st_size < volume.array.nbytes / 2 < volume.array.nbytes < stored.stat().st_size
    for path in (stored, packed):
        again = read_volume_file(path, unit=Unit.SUV_BW)
        np.testing.assert_array_equal(again.array, ramp)
        assert again.geometry.same_grid_as(volume.geometry)
