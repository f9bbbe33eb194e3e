"""NRRD reading and writing, against SimpleITK in both directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from CT2PETLib.client.errors import InvalidResponseError
from CT2PETLib.client.image_id import image_id_of
from CT2PETLib.client.nrrd import read_nrrd, to_nrrd

from lib.imaging.files.nrrd import write_nrrd
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume

AFFINE = np.array([[0.9, 0.1, 0.0, -101.25], [-0.1, 0.9, 0.2, 33.5], [0.0, -0.2, 2.9, -700.0], [0, 0, 0, 1.0]])
SHAPE = (3, 4, 5)  # slices, rows, columns
DTYPES = ["<f4", "<f8", "<i2", "<u2", "<i4", "<u1", "<i1"]


def image(array: np.ndarray) -> sitk.Image:
    """Return an oblique image with orthonormal directions and spacings of 1.5, 2 and 3 mm."""
    result = sitk.GetImageFromArray(array)
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.1, -0.2, 0.3)
    result.SetDirection(rotation.GetMatrix())
    result.SetSpacing((1.5, 2.0, 3.0))
    result.SetOrigin((-10.5, 20.25, -700.125))
    return result


def affine_of(volume: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(volume.GetDirection(), (3, 3)) * volume.GetSpacing()
    affine[:3, 3] = volume.GetOrigin()
    return affine


def sample(dtype: str) -> np.ndarray:
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100).astype(dtype)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_of_simpleitk_are_read(tmp_path: Path, dtype: str, compressed: bool) -> None:
    written = image(sample(dtype))
    sitk.WriteImage(written, str(tmp_path / "image.nrrd"), useCompression=compressed)
    volume = read_nrrd((tmp_path / "image.nrrd").read_bytes())
    np.testing.assert_array_equal(volume.array, sample(dtype))
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_allclose(volume.affine, affine_of(written), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "<f8"])
def test_simpleitk_reads_our_files(tmp_path: Path, dtype: str) -> None:
    affine = affine_of(image(sample(dtype)))
    (tmp_path / "image.nrrd").write_bytes(to_nrrd(sample(dtype), affine))
    read = sitk.ReadImage(str(tmp_path / "image.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), sample(dtype))
    np.testing.assert_allclose(affine_of(read), affine, rtol=0, atol=1e-12)


def test_write_then_read_is_exact() -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    volume = read_nrrd(to_nrrd(array, AFFINE))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(volume.affine, AFFINE)


@pytest.mark.parametrize("level", [0, 1])
def test_the_servers_files_are_read_with_and_without_compression(tmp_path: Path, level: int) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    geometry = Geometry(SHAPE, affine_of(image(array)))
    write_nrrd(Volume(array, geometry, Unit.SUV_BW), tmp_path / "pet.nrrd", level=level)
    volume = read_nrrd((tmp_path / "pet.nrrd").read_bytes())
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, geometry.affine, atol=1e-9)


def test_big_endian_voxels_are_converted() -> None:
    array = sample("<i2")
    content = to_nrrd(array, AFFINE).partition(b"\n\n")[0].replace(b"little", b"big").replace(b"gzip", b"raw")
    volume = read_nrrd(content + b"\n\n" + array.astype(">i2").tobytes())
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype.isnative


def test_non_contiguous_arrays_are_written() -> None:
    array = sample("<i2")[::-1, :, ::2]
    np.testing.assert_array_equal(read_nrrd(to_nrrd(array, AFFINE)).array, array)


GOOD = to_nrrd(sample("<f4"), AFFINE)
DAMAGED = {
    "web page": (b"<html>\n\n</html>", "expected an NRRD volume"),
    "empty": (b"", "expected an NRRD volume"),
    "truncated": (GOOD[:-9], "more or fewer than 240 bytes of voxels"),
    "not compressed": (GOOD.partition(b"\n\n")[0] + b"\n\nxxxx", "damaged"),
    "too few voxels": (GOOD.replace(b"sizes: 5 4 3", b"sizes: 5 4 4"), "expected 320"),
    "too many voxels": (GOOD.replace(b"sizes: 5 4 3", b"sizes: 5 4 2"), "160 bytes"),
    "far too many voxels": (GOOD.replace(b"sizes: 5 4 3", b"sizes: 5 4 999999999999"), "expected three"),
    "two axes": (GOOD.replace(b"sizes: 5 4 3", b"sizes: 5 12"), "expected three"),
    "colour": (GOOD.replace(b"type: float", b"type: block"), "block"),
    "RAS": (GOOD.replace(b"left-posterior-superior", b"right-anterior-superior"), "expected left-posterior"),
    "bzip2": (GOOD.replace(b"encoding: gzip", b"encoding: bzip2"), "expected raw or gzip"),
    "no origin": (GOOD.replace(b"space origin", b"space  stuff"), "space origin"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_invalid_files_are_refused_with_a_reason(content: bytes, message: str) -> None:
    with pytest.raises(InvalidResponseError, match=message):
        read_nrrd(content)


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros(SHAPE, np.complex64), np.zeros(SHAPE, np.int64)])
def test_unsupported_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InvalidResponseError, match="Cannot write shape"):
        to_nrrd(array, AFFINE)


def test_file_has_no_patient_data() -> None:
    header = to_nrrd(sample("<i2"), AFFINE).partition(b"\n\n")[0].decode()
    assert {line.partition(":")[0] for line in header.splitlines()[1:]} == {
        "type", "dimension", "space", "sizes", "space directions", "kinds", "endian", "encoding", "space origin"
    }  # fmt: skip


def test_image_id_is_unique_to_voxels_and_geometry() -> None:
    array = sample("<i2")
    known = image_id_of(array, AFFINE)
    assert known == image_id_of(array.copy(order="F"), AFFINE + 1e-9)
    moved = AFFINE.copy()
    moved[0, 3] += 0.001
    brighter = array.copy()
    brighter[0, 0, 0] += 1
    others = [
        image_id_of(array, moved),
        image_id_of(brighter, AFFINE),
        image_id_of(array.reshape(3, 5, 4), AFFINE),
        image_id_of(array.astype(np.float32), AFFINE),
    ]
    assert len({known, *others}) == 5
    assert known.startswith("ct-") and len(known) == 35
