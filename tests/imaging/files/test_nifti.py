"""NIfTI: both orientations compared, nothing guessed, nothing altered, and two other programs see it where we do."""

from __future__ import annotations

import gzip
import itertools
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.errors import ImageFileError
from lib.imaging.files.volume_file import read_volume_file, voxels_are_float, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.resample import geometry_of, to_sitk
from lib.imaging.volume import Unit, Volume

LPS_FROM_RAS = np.diag([-1.0, -1, 1, 1])
AXIAL = np.array([[-0.9765625, 0, 0, 250.0], [0, -0.9765625, 0, 240.0], [0, 0, 3.27, -900.5], [0, 0, 0, 1]])  # RAS
SHAPE = (8, 7, 5)
ORDERS = [(axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def hu(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    return np.linspace(-1000, 1200, int(np.prod(shape))).astype(np.int16).reshape(shape)


def image(
    array: NDArray[Any] | None = None, *, sform: Any = AXIAL, qform: Any = None, codes: tuple[int, int] = (1, 0)
) -> nibabel.Nifti1Image:
    made = nibabel.Nifti1Image(hu() if array is None else array, AXIAL)
    made.set_qform(AXIAL if qform is None else qform, codes[1])
    made.set_sform(sform, codes[0])
    return made


def read(tmp_path: Path, made: Any, name: str = "ct.nii.gz") -> Volume:
    nibabel.save(made, tmp_path / name)
    return read_volume_file(tmp_path / name, unit=Unit.HU)


def refusal(tmp_path: Path, made: Any) -> str:
    with pytest.raises(ImageFileError) as error:
        read(tmp_path, made)
    assert str(error.value).startswith("ct.nii.gz: ")
    return str(error.value)


def moved(affine: NDArray[np.float64], **by: float) -> NDArray[np.float64]:
    affine = affine.copy()
    for axis, mm in by.items():
        affine["xyz".index(axis), 3] += mm
    return affine


# -- position ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [(1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (4, 1)])
def test_an_orientation_that_is_stated_is_taken(tmp_path: Path, codes: tuple[int, int]) -> None:
    volume = read(tmp_path, image(codes=codes))
    np.testing.assert_allclose(volume.geometry.affine, LPS_FROM_RAS @ AXIAL, atol=1e-4)
    np.testing.assert_array_equal(volume.array, hu().T)


def test_a_form_with_code_0_is_ignored(tmp_path: Path) -> None:
    volume = read(tmp_path, image(qform=moved(AXIAL, x=50), codes=(1, 0)))
    np.testing.assert_allclose(volume.geometry.affine, LPS_FROM_RAS @ AXIAL, atol=1e-4)
    volume = read(tmp_path, image(sform=moved(AXIAL, x=50), codes=(0, 1)))
    np.testing.assert_allclose(volume.geometry.affine, LPS_FROM_RAS @ AXIAL, atol=1e-4)


def test_two_places_are_refused_with_both_names_and_the_distance(tmp_path: Path) -> None:
    message = refusal(tmp_path, image(qform=moved(AXIAL, x=50), codes=(2, 1)))
    assert "sform (code 2) and qform (code 1) place the volume up to 50.00 mm apart, expected at most 0.1" in message
    assert "set the other's code to 0" in message


@pytest.mark.parametrize("lean_rad", [1e-4, 2e-4, 5e-4])
@pytest.mark.parametrize("made_by", ["itk", "us"])
def test_what_a_quaternion_of_32_bits_loses_is_no_conflict(tmp_path: Path, lean_rad: float, made_by: str) -> None:
    """Near a half turn, which LPS is to NIfTI's RAS, a qform is off by up to 0.4 mm over 500 mm."""
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(lean_rad), -np.sin(lean_rad)], [np.sin(lean_rad), np.cos(lean_rad)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.9765625, 0.9765625, 3.27])
    volume = Volume(np.zeros((2, 512, 512), np.float32), Geometry((2, 512, 512), affine), Unit.HU)
    if made_by == "us":
        write_volume_file(volume, tmp_path / "a.nii")
    else:
        sitk.WriteImage(to_sitk(volume), str(tmp_path / "a.nii"))
    again = read_volume_file(tmp_path / "a.nii", unit=Unit.HU)
    assert again.geometry.same_grid_as(volume.geometry, tolerance_mm=1e-4)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_sform_and_qform_may_differ_by_a_tenth_of_a_millimetre(tmp_path: Path, axis: str) -> None:
    read(tmp_path, image(qform=moved(AXIAL, **{axis: 0.09}), codes=(1, 1)))
    assert "0.11 mm apart" in refusal(tmp_path, image(qform=moved(AXIAL, **{axis: 0.11}), codes=(1, 1)))


def test_forms_that_differ_at_the_far_corner_only_are_refused(tmp_path: Path) -> None:
    qform = AXIAL.copy()
    qform[2, 2] = 3.27 + 0.04  # 4 steps of 0.04 mm; 0.1 mm and 1.25 thousandths of 13 mm are allowed
    assert "0.16 mm apart, expected at most 0.12" in refusal(tmp_path, image(qform=qform, codes=(1, 1)))


def test_a_mirrored_qform_is_refused(tmp_path: Path) -> None:
    assert "apart" in refusal(tmp_path, image(qform=AXIAL @ np.diag([-1, 1, 1, 1]), codes=(1, 1)))


def test_no_orientation_is_refused_not_guessed(tmp_path: Path) -> None:
    message = refusal(tmp_path, image(codes=(0, 0)))
    assert "sform_code and qform_code are 0" in message and "export it again with its orientation" in message


def sheared(degrees: float) -> NDArray[np.float64]:
    affine = AXIAL.copy()
    affine[1, 2] = np.tan(np.deg2rad(degrees)) * affine[2, 2]  # slices drift along y, as under a tilted gantry
    return affine


def test_a_shear_is_named_with_its_angle(tmp_path: Path) -> None:
    message = refusal(tmp_path, image(sform=sheared(15)))
    assert "its sform is sheared: row and slice axis deviate 15.00 degrees from the right angle" in message
    assert "resample it" in message


def test_a_shear_is_taken_just_inside_its_limit_and_refused_just_outside(tmp_path: Path) -> None:
    read(tmp_path, image(sform=sheared(0.09)))
    assert "0.11 degrees from the right angle" in refusal(tmp_path, image(sform=sheared(0.11)))


def test_a_rounded_sform_is_taken(tmp_path: Path) -> None:
    rounded = AXIAL.copy()
    rounded[:3, :3] += np.array([[0, 1, -1], [1, 0, 1], [-1, 1, 0]]) * 1e-4
    np.testing.assert_allclose(read(tmp_path, image(sform=rounded)).geometry.affine, LPS_FROM_RAS @ rounded, atol=1e-4)


UNFIT = {
    "no length": (np.diag([1.0, 0, 3, 1]), "its sform is singular: the row axis has length 0"),
    "NaN": (np.diag([1.0, np.nan, 3, 1]), "its sform contains NaN or infinite numbers"),
    "infinite": (moved(AXIAL, x=np.inf), "its sform contains NaN or infinite numbers"),
    "two axes alike": (
        np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]),
        "90.00 degrees from the right angle",
    ),
}


@pytest.mark.parametrize(("sform", "text"), UNFIT.values(), ids=UNFIT)
def test_a_matrix_that_places_nothing_is_refused(tmp_path: Path, sform: NDArray[np.float64], text: str) -> None:
    nibabel.save(image(), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<12f", content, 280, *sform[:3].ravel())
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(ImageFileError, match=text):
        read_volume_file(tmp_path / "ct.nii", unit=Unit.HU)


@pytest.mark.parametrize(("unit", "text"), [("meter", "metres"), ("micron", "micrometres")])
def test_other_lengths_than_millimetres_are_refused(tmp_path: Path, unit: str, text: str) -> None:
    made = image()
    made.header.set_xyzt_units(unit)
    assert f"xyzt_units says {text}, expected mm" in refusal(tmp_path, made)


@pytest.mark.parametrize("unit", ["mm", "unknown"])
def test_millimetres_and_an_unspecified_unit_are_accepted(tmp_path: Path, unit: str) -> None:
    made = image()
    made.header.set_xyzt_units(unit, "sec")
    assert read(tmp_path, made).geometry.shape == SHAPE[::-1]


# -- what its numbers are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "i8", "f4", "f8", "i1"])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_numbers_of_every_kind_are_read_as_they_are(tmp_path: Path, kind: str, order: str, name: str) -> None:
    array = (hu() % 128 if kind == "i1" else hu() + 1000 if kind == "u2" else hu()).astype(f"{order}{kind}")
    header = nibabel.Nifti1Header(endianness=order)
    made = nibabel.Nifti1Image(array, AXIAL, header=header, dtype=array.dtype)
    np.testing.assert_array_equal(read(tmp_path, made, name).array, array.T.astype(np.float32))


def test_nifti_2_is_read(tmp_path: Path) -> None:
    volume = read(tmp_path, nibabel.Nifti2Image(hu(), AXIAL))
    np.testing.assert_allclose(volume.geometry.affine, LPS_FROM_RAS @ AXIAL, atol=1e-9)
    np.testing.assert_array_equal(volume.array, hu().T)


@pytest.mark.parametrize(
    ("slope", "inter", "expected"),
    [(2.0, -1024.0, 2 * 300 - 1024), (0.0, -1024.0, 300), (np.nan, np.nan, 300), (1.0, 0.0, 300), (0.5, 0, 150)],
)  # a slope of 0 or NaN means unscaled: nifti1.h, "scl_slope"
def test_slope_and_intercept_are_applied(tmp_path: Path, slope: float, inter: float, expected: float) -> None:
    nibabel.save(image(np.full(SHAPE, 300, np.int16)), tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    (tmp_path / "ct.nii").write_bytes(content)
    assert (read_volume_file(tmp_path / "ct.nii", unit=Unit.HU).array == expected).all()
    assert voxels_are_float(tmp_path / "ct.nii") == (expected != 300)


def test_a_fourth_axis_of_one_is_dropped_and_of_two_refused(tmp_path: Path) -> None:
    assert read(tmp_path, nibabel.Nifti1Image(hu((*SHAPE, 1)), AXIAL)).geometry.shape == SHAPE[::-1]
    message = refusal(tmp_path, nibabel.Nifti1Image(hu((*SHAPE, 2)), AXIAL))
    assert "4 dimensions (8 x 7 x 5 x 2), expected 3" in message


def test_colours_vectors_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colour or vector image (3 components)" in refusal(tmp_path, nibabel.Nifti1Image(rgb, AXIAL))
    assert "(3 components)" in refusal(tmp_path, nibabel.Nifti1Image(hu((*SHAPE, 1, 3)), AXIAL))
    assert "(2 components)" in refusal(tmp_path, nibabel.Nifti1Image(hu().astype(np.complex64), AXIAL))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_voxels_that_are_no_numbers_are_refused_in_every_format(tmp_path: Path, suffix: str, value: float) -> None:
    array = hu().astype(np.float64)
    array[0, 0, :2] = value
    path = tmp_path / f"ct{suffix}"
    if "nii" in suffix:
        nibabel.save(nibabel.Nifti1Image(array, AXIAL), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    with pytest.raises(ImageFileError) as error:
        read_volume_file(path, unit=Unit.HU)
    assert f"ct{suffix}: contains 2 NaN or infinite voxels (0.71%)" in str(error.value)  # 2 of 280
    assert "outside the scan write -1024 (air)" in str(error.value)


# -- damaged -----------------------------------------------------------------------------------------------------------


def packed(array: NDArray[Any] | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        nibabel.save(image(array), Path(folder) / "a.nii.gz")
        return (Path(folder) / "a.nii.gz").read_bytes()


def wrong_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


NOISE = np.random.default_rng(0).integers(-1000, 1000, (40, 40, 20)).astype(np.int16)
DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut before its checksum": lambda content: content[:-8],
    "another checksum": wrong_checksum,
    "a bit turned": lambda content: content[:5000] + bytes([content[5000] ^ 16]) + content[5001:],
    "much beyond its voxels": lambda content: gzip.compress(gzip.decompress(content) + bytes(2**21)),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "ct.nii.gz").write_bytes(damage(packed(NOISE)))
    with pytest.raises(ImageFileError, match=r"ct\.nii\.gz: cannot be read as a volume; is the file complete\?"):
        read_volume_file(tmp_path / "ct.nii.gz", unit=Unit.HU)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(108, "f", 1e9), (108, "f", -8.0), (108, "f", np.nan), (108, "f", np.inf), (112, "2f", (1.0, np.nan))],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, at: int, form: str, value: Any) -> None:
    content = bytearray(gzip.decompress(packed()))
    struct.pack_into(f"<{form}", content, at, *(value if isinstance(value, tuple) else (value,)))
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(ImageFileError, match="is the file complete"):
        read_volume_file(tmp_path / "ct.nii", unit=Unit.HU)


# -- what we write -----------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    order=st.sampled_from(ORDERS),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    origin=st.tuples(*[st.floats(-1000, 1000)] * 3),
    lean_deg=st.floats(-30, 30),
    about=st.integers(0, 2),
)
def test_geometry_survives_write_and_read(
    order: tuple[tuple[int, ...], tuple[int, ...]],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    lean_deg: float,
    about: int,
) -> None:
    axes, signs = order
    turn, (a, b) = np.eye(3), [axis for axis in range(3) if axis != about]
    turn[a, a] = turn[b, b] = np.cos(np.deg2rad(lean_deg))
    turn[a, b] = -np.sin(np.deg2rad(lean_deg))
    turn[b, a] = -turn[a, b]
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(axes)] * np.array(signs) * np.array(spacing))
    affine[:3, 3] = origin
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    volume = Volume(array, Geometry((3, 4, 5), affine), Unit.SUV_BW)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".nii.gz", ".nii", ".nrrd", ".mha"):
            path = write_volume_file(volume, Path(folder) / f"pet{suffix}")
            again = read_volume_file(path, unit=Unit.SUV_BW)
            np.testing.assert_array_equal(again.array, array)
            assert again.geometry.same_grid_as(volume.geometry, tolerance_mm=1e-4), suffix
            # two independent readers
            theirs = sitk.ReadImage(str(path))
            assert geometry_of(theirs).same_grid_as(volume.geometry, tolerance_mm=5e-4), suffix
            np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), array)
        header = nibabel.load(Path(folder) / "pet.nii.gz").header
        for form, turn_rad in ((header.get_sform, 0.0), (header.get_qform, 1.25e-3)):  # what a 32-bit quaternion loses
            matrix, code = form(coded=True)
            assert code == 1
            np.testing.assert_allclose(LPS_FROM_RAS @ matrix, affine, atol=2e-4 + turn_rad * max(spacing))
        assert header.get_data_dtype() == np.float32 and header.get_xyzt_units()[0] == "mm"


def test_a_slight_shear_that_a_quaternion_cannot_say_is_taken_out_of_both_forms(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1, 3, 1])
    affine[0, 1] = 1.5e-3  # 0.09 degrees: 0.75 mm over 500 mm
    volume = Volume(np.zeros((2, 500, 4), np.float32), Geometry((2, 500, 4), affine), Unit.SUV_BW)
    again = read_volume_file(write_volume_file(volume, tmp_path / "pet.nii"), unit=Unit.SUV_BW)
    assert again.geometry.same_grid_as(volume.geometry, tolerance_mm=0.76)  # 1.5e-3 of 500 mm
    assert sitk.ReadImage(str(tmp_path / "pet.nii")).GetSize() == (4, 500, 2)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_are_refused_for_shear_too(tmp_path: Path, suffix: str) -> None:
    made = sitk.GetImageFromArray(hu().T.copy())
    made.SetDirection((1, 0, 0, 0, 1, float(np.sin(0.2)), 0, 0, float(np.cos(0.2))))
    sitk.WriteImage(made, str(tmp_path / f"ct{suffix}"))
    with pytest.raises(ImageFileError, match=r"direction matrix is sheared: row and slice axis deviate 11\.46 degrees"):
        read_volume_file(tmp_path / f"ct{suffix}", unit=Unit.HU)
