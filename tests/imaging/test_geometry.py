"""Positions of voxels."""

import numpy as np
import pytest

from lib.errors import InputError
from lib.imaging.geometry import Geometry

AXIAL = (1, 0, 0, 0, 1, 0)


def axial(shape: tuple[int, int, int] = (4, 6, 8)) -> Geometry:
    return Geometry.from_dicom(
        shape, first_position_mm=(-10, -20, 30), orientation=AXIAL, pixel_spacing_mm=(2.0, 0.5), slice_spacing_mm=3.0
    )


def test_voxel_to_patient_follows_dicom_equation() -> None:
    # column 3, row 2, slice 1: x = -10 + 3 * 0.5, y = -20 + 2 * 2, z = 30 + 3
    np.testing.assert_allclose(axial().to_world(np.array([[3.0, 2.0, 1.0]])), [[-8.5, -16.0, 33.0]])


def test_patient_to_voxel_is_the_inverse() -> None:
    voxels = np.array([[0.0, 0, 0], [7, 5, 3], [1.5, 2.5, 0.5]])
    np.testing.assert_allclose(axial().to_voxel(axial().to_world(voxels)), voxels, atol=1e-12)


def test_spacing_is_slices_rows_columns() -> None:
    assert axial().spacing_mm == (3.0, 2.0, 0.5)


def test_positions_run_along_the_normal() -> None:
    np.testing.assert_allclose(axial().slice_positions_mm(), [30, 33, 36, 39])


def test_positions_of_a_sagittal_stack_run_along_x() -> None:
    sagittal = Geometry.from_dicom(
        (3, 2, 2),
        first_position_mm=(5, 0, 0),
        orientation=(0, 1, 0, 0, 0, 1),
        pixel_spacing_mm=(1, 1),
        slice_spacing_mm=4,
    )
    np.testing.assert_allclose(sagittal.normal, [1, 0, 0])
    np.testing.assert_allclose(sagittal.slice_positions_mm(), [5, 9, 13])


def test_slab_keeps_its_place() -> None:
    slab = axial().slab(slice(1, 3))
    assert slab.shape == (2, 6, 8)
    np.testing.assert_allclose(slab.slice_positions_mm(), [33, 36])


@pytest.mark.parametrize("slices", [slice(2, 2), slice(0, 5), slice(-9, 2), slice(0, 4, 2), slice(3, 1)])
def test_slab_outside_or_empty_is_refused(slices: slice) -> None:
    with pytest.raises(InputError, match="not a range within the 4 slices"):
        axial().slab(slices)


def test_other_pixels_keep_the_outer_edges() -> None:
    halved = axial().with_pixels(3, 4)
    assert halved.spacing_mm == (3.0, 4.0, 1.0)
    # outer corner of the first pixel: centre minus half a pixel, before and after
    before = axial().to_world(np.array([[-0.5, -0.5, 0.0], [7.5, 5.5, 3.0]]))
    after = halved.to_world(np.array([[-0.5, -0.5, 0.0], [3.5, 2.5, 3.0]]))
    np.testing.assert_allclose(after, before)


def test_slices_of_a_left_handed_grid_run_along_its_normal_too() -> None:
    left_handed = Geometry((3, 2, 2), np.diag([1.0, 1.0, -4.0, 1.0]))
    np.testing.assert_allclose(left_handed.normal, [0, 0, -1])
    np.testing.assert_allclose(left_handed.slice_positions_mm(), [0, 4, 8])  # along the normal, which points down


def test_singular_affine_is_refused() -> None:
    with pytest.raises(InputError, match="singular affine"):
        Geometry((2, 2, 2), np.diag([1.0, 0.0, 1.0, 1.0]))


def test_empty_axis_is_refused() -> None:
    with pytest.raises(InputError, match="at least one slice"):
        Geometry((0, 2, 2), np.eye(4))


def test_same_grid_sees_a_shift_of_a_hundredth_of_a_millimetre() -> None:
    affine = axial().affine.copy()
    affine[0, 3] += 0.01
    assert axial().same_grid_as(axial())
    assert not axial().same_grid_as(Geometry((4, 6, 8), affine))


def test_affine_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        axial().affine[0, 0] = 7
