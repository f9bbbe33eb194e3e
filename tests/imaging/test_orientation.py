"""Every stored voxel order to the canonical one and back: by permutation and flips alone, world positions kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.errors import ImageFileError
from lib.imaging.geometry import Geometry
from lib.imaging.orientation import VoxelOrder, canonical_geometry, refuse_oblique, to_canonical
from lib.imaging.volume import Unit, Volume

ORDERS = [(axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
SPACING_MM = (0.7, 1.3, 3.0)


def rotation(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    """Return the rotation about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def stored(
    axes: tuple[int, ...], signs: tuple[int, ...], shape: tuple[int, int, int] = (4, 5, 6), lean: NDArray | None = None
) -> Volume:
    """Return a volume whose (column, row, slice) axes are the patient axes `axes`, in direction `signs`."""
    affine = np.eye(4)
    for number, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[:3, number] = 0
        affine[axis, number] = sign * SPACING_MM[axis]
    affine[:3, :3] = affine[:3, :3] if lean is None else lean @ affine[:3, :3]
    affine[:3, 3] = (-120.5, 33.25, 871.3)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(array, Geometry(shape, affine), Unit.HU)


LEANS = st.builds(
    rotation, st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1), st.floats(-9, 9)
)
SHAPES = st.tuples(*[st.integers(1, 6)] * 3)


@given(order=st.sampled_from(ORDERS), shape=SHAPES, lean=LEANS, seed=st.integers(0, 99))
def test_to_canonical_and_back_is_the_identity(
    order: tuple[tuple[int, ...], tuple[int, ...]], shape: tuple[int, int, int], lean: NDArray[np.float64], seed: int
) -> None:
    volume = stored(*order, shape=shape, lean=lean)
    canonical, voxel_order = to_canonical(volume), VoxelOrder.of(volume.geometry)
    # canonical: columns toward Left (x), rows toward Posterior (y), slices toward Superior (z), each within 9 degrees
    assert np.degrees(np.arccos(np.diag(canonical.geometry.direction))).max() < 9.01
    np.testing.assert_allclose(canonical.geometry.spacing_mm, SPACING_MM[::-1], atol=1e-9)
    assert sorted(canonical.geometry.shape) == sorted(shape)
    np.testing.assert_array_equal(voxel_order.stored(canonical.array), volume.array)
    # world positions: each voxel of the stored volume lies where the one with its number lies in the canonical one
    random = np.random.default_rng(seed)
    for _ in range(5):
        k, r, c = (int(random.integers(n)) for n in shape)
        ((k2, r2, c2),) = np.argwhere(canonical.array == volume.array[k, r, c])
        here = volume.geometry.to_world(np.array([[c, r, k]], float))
        np.testing.assert_allclose(canonical.geometry.to_world(np.array([[c2, r2, k2]], float)), here, atol=1e-9)
    # back: the same permutation and flips of the canonical grid give the stored affine
    back = canonical_geometry(canonical.geometry)
    np.testing.assert_allclose(back.affine, canonical.geometry.affine, atol=1e-9)
    corners = {tuple(np.round(corner, 6)) for corner in volume.geometry.corners_mm()}
    assert corners == {tuple(np.round(corner, 6)) for corner in canonical.geometry.corners_mm()}


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_stored_slab_is_a_box_of_the_canonical_volume(order: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    volume = stored(*order)
    voxel_order, whole = VoxelOrder.of(volume.geometry), to_canonical(volume)
    for slices in (slice(0, 1), slice(1, 3), slice(3, 4), slice(None), slice(-2, None)):
        slab = volume.slab(slices)
        np.testing.assert_array_equal(whole.array[voxel_order.box(slices)], to_canonical(slab).array)
        np.testing.assert_array_equal(voxel_order.stored(whole.array[voxel_order.box(slices)]), slab.array)


def test_a_canonical_volume_is_not_copied() -> None:
    volume = stored((0, 1, 2), (1, 1, 1))
    assert to_canonical(volume) is volume


def test_slices_first_as_kits_stores_them() -> None:
    """KiTS: array axes (columns 0.7 mm toward Left, rows toward Posterior, slices last): x is its slice axis."""
    kits = stored((2, 1, 0), (1, 1, 1), shape=(6, 5, 4))
    canonical = to_canonical(kits)
    assert canonical.geometry.shape == (4, 5, 6)
    assert canonical.geometry.spacing_mm == (3.0, 1.3, 0.7)
    np.testing.assert_array_equal(canonical.array, kits.array.transpose(2, 1, 0))


def test_a_prone_patient_is_detected_by_its_coordinates() -> None:
    """Prone, head first: rows run toward Right and columns toward Anterior; both are reversed, slices are not."""
    geometry = Geometry.from_dicom(
        (2, 3, 4),
        first_position_mm=(10, 20, 30),
        orientation=(-1, 0, 0, 0, -1, 0),
        pixel_spacing_mm=(2, 1),
        slice_spacing_mm=5,
    )
    prone = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), geometry, Unit.HU)
    canonical = to_canonical(prone)
    np.testing.assert_array_equal(canonical.array, prone.array[:, ::-1, ::-1])
    assert canonical.geometry.origin_mm == (7, 16, 30)  # 10 - 3 * 1, 20 - 2 * 2


@pytest.mark.parametrize("about", [(0, 0, 1), (1, 0, 0), (0, 1, 0)])
@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[13], ORDERS[-1]], ids=str)
def test_a_lean_is_taken_just_inside_the_limit_and_refused_just_outside(
    order: tuple[tuple[int, ...], tuple[int, ...]], about: tuple[float, float, float]
) -> None:
    refuse_oblique(stored(*order, lean=rotation(about, 9.99)).geometry, "a.nrrd")
    with pytest.raises(ImageFileError, match=r"a\.nrrd: oblique volume: .* leans 10\.0 degrees .* resample it"):
        refuse_oblique(stored(*order, lean=rotation(about, 10.01)).geometry, "a.nrrd")


def test_a_patient_turned_in_the_slice_plane_is_refused() -> None:
    turned = stored((0, 1, 2), (1, 1, 1), lean=rotation((0, 0, 1), 45))
    with pytest.raises(ImageFileError, match=r"axis leans 45\.0 degrees from the patient's"):
        refuse_oblique(turned.geometry, "a.nrrd")
