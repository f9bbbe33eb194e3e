"""Between grids."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.imaging.geometry import Geometry
from lib.imaging.resample import resample_to
from lib.imaging.resample_2d import in_plane_weights, resample_in_plane
from lib.imaging.volume import Unit, Volume


def volume(array: np.ndarray, spacing_mm: tuple[float, float, float], origin_mm: tuple[float, float, float]) -> Volume:
    geometry = Geometry.from_dicom(
        array.shape,  # type: ignore[arg-type]
        first_position_mm=origin_mm,
        orientation=(1, 0, 0, 0, 1, 0),
        pixel_spacing_mm=spacing_mm[1:],
        slice_spacing_mm=spacing_mm[0],
    )
    return Volume(array.astype(np.float32), geometry, Unit.SUV_BW)


@given(st.integers(1, 40), st.integers(1, 40))
def test_weights_keep_a_constant(source: int, target: int) -> None:
    np.testing.assert_allclose(in_plane_weights(source, target).sum(axis=1), 1, rtol=1e-5)


def test_halving_weighs_by_a_triangle() -> None:
    # target pixel 1 of 4 has its centre at 2.5 source pixels; distances 1.5, .5, .5, 1.5 within a width of 2
    np.testing.assert_allclose(in_plane_weights(8, 4)[1], np.array([0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0]) / 2)


@pytest.mark.parametrize(("source", "target"), [((9, 12), (31, 20)), ((40, 33), (13, 16))])
def test_in_plane_agrees_with_torch_antialiased(source: tuple[int, int], target: tuple[int, int]) -> None:
    slices = np.random.default_rng(1).random((3, *source)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(slices)[None], target, mode="bilinear", antialias=True, align_corners=False
    )[0].numpy()
    inner = (slice(None), slice(2, -2), slice(2, -2))  # at the border torch drops weights, we hold the edge
    np.testing.assert_allclose(resample_in_plane(slices, *target)[inner], expected[inner], atol=1e-5)


def test_a_slab_is_the_same_slices_of_the_full_volume() -> None:
    slices = np.random.default_rng(2).random((6, 50, 47)).astype(np.float32)
    whole = resample_in_plane(slices, 31, 64)
    np.testing.assert_array_equal(resample_in_plane(slices[2:4], 31, 64), whole[2:4])


@pytest.mark.parametrize(("source", "target"), [((70, 65), (140, 131)), ((140, 131), (70, 33)), ((5, 200), (97, 64))])
def test_in_plane_is_the_product_with_the_weights_of_both_axes(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    slices = np.random.default_rng(3).random((2, *source)).astype(np.float32)
    across_rows, across_columns = (
        in_plane_weights(old, new).astype(np.float64) for old, new in zip(source, target, strict=True)
    )
    # values below 1, each a product and a sum per axis: a few roundings of 2**-24
    np.testing.assert_allclose(
        resample_in_plane(slices, *target), across_rows @ slices @ across_columns.T, rtol=0, atol=2**-20
    )


def test_space_resampling_reproduces_a_linear_field() -> None:
    k, r, c = np.meshgrid(np.arange(5), np.arange(6), np.arange(7), indexing="ij")
    pet = volume(2.0 * k + 3.0 * r + 5.0 * c, (4, 4, 4), (0, 0, 0))
    target = volume(np.zeros((7, 9, 11)), (1, 2, 1.5), (2, 1, 3)).geometry
    x, y, z = target.to_world(np.array([[10.0, 8.0, 6.0]]))[0]
    expected = 2.0 * z / 4 + 3.0 * y / 4 + 5.0 * x / 4
    assert resample_to(pet, target).array[6, 8, 10] == pytest.approx(expected, rel=1e-5)


def test_outside_the_pet_is_not_a_number() -> None:
    pet = volume(np.ones((2, 2, 2)), (4, 4, 4), (0, 0, 0))
    target = volume(np.zeros((1, 1, 4)), (1, 1, 3), (-4, 0, 0)).geometry  # x = -4, -1, 2, 5; the PET reaches -2 to 6
    np.testing.assert_array_equal(np.isfinite(resample_to(pet, target).array[0, 0]), [False, True, True, True])


def test_mirrored_in_mirrored_out() -> None:
    array = np.random.default_rng(3).random((4, 5, 6))
    target = volume(np.zeros((7, 9, 11)), (4 / 2, 2.0, 2.0), (0, 0, 0)).geometry
    straight = resample_to(volume(array, (4, 4, 4), (0, 0, 0)), target).array
    # the same field, columns stored from right to left under a turned affine (both row and column axes flipped)
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    affine[:3, 3] = (20, 16, 0)
    turned = Volume(array[:, ::-1, ::-1].astype(np.float32), Geometry((4, 5, 6), affine), Unit.SUV_BW)
    np.testing.assert_allclose(resample_to(turned, target).array, straight, atol=1e-5)
