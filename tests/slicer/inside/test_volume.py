"""The node of the synthetic PET: type, position, filling by slabs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import RAS_TO_LPS, slab_affine, volume_node
from CT2PETLib.scene import node_attributes, volume
from CT2PETLib.scene.buffer import ZeroBuffer

import slicer


@pytest.fixture
def pet(scene: Any, ct: Any) -> Any:
    return volume.make_pet_node(scene, ct, model="cascade3", version="7")


def test_pet_is_on_the_grid_of_the_ct(ct: Any, pet: Any) -> None:
    corners = np.array([[0, 0, 0, 1], [19, 23, 9, 1], [19, 0, 9, 1]]).T
    off = np.abs((volume.ijk_to_ras(pet) - volume.ijk_to_ras(ct)) @ corners)
    assert off.max() < 1e-6
    assert volume.voxels(pet).shape == volume.voxels(ct).shape


def test_pet_is_float32_in_body_weight_suv(pet: Any) -> None:
    assert volume.voxels(pet).dtype == np.float32
    assert (
        pet.GetVoxelValueUnits().GetAsString()
        == "CodeValue:{SUVbw}g/ml|CodingSchemeDesignator:UCUM|CodeMeaning:Standardized Uptake Value body weight"
    )
    assert pet.GetVoxelValueQuantity().GetCodeValue() == "126400"
    assert volume.is_suv(pet)


def test_pet_is_labelled_as_synthetic(pet: Any) -> None:
    assert pet.GetName() == "SYNTHETIC PET cascade3 (not for diagnosis) of CT"
    assert pet.GetAttribute(node_attributes.WARNING) == "SYNTHETIC PET - NOT FOR DIAGNOSIS"
    assert node_attributes.is_synthetic(pet)
    assert (pet.GetAttribute(node_attributes.MODEL), pet.GetAttribute(node_attributes.VERSION)) == ("cascade3", "7")


def test_voxels_are_adopted_without_a_copy(scene: Any) -> None:
    # a copy, or a window computed from all voxels, blocks for tenths of a second at 512 x 512 x 200
    array = np.zeros((3, 4, 5), np.int16)
    node = volume.make_volume_node(scene, array, np.eye(4), "CT")
    assert np.shares_memory(volume.voxels(node), array)
    assert not node.GetDisplayNode().GetAutoWindowLevel()
    del array  # the scene keeps a reference
    volume.voxels(node)[1, 2, 3] = 7
    assert volume.voxels(node).sum() == 7


def test_read_only_voxels_are_copied(scene: Any) -> None:
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    array.flags.writeable = False
    node = volume.make_volume_node(scene, array, np.eye(4), "CT")
    volume.voxels(node)[0, 0, 0] = 99
    assert array[0, 0, 0] == 0
    assert volume.voxels(node)[2, 3, 4] == 59


def test_buffer_is_adopted(scene: Any, ct: Any) -> None:
    buffer = ZeroBuffer(volume.voxels(ct).shape).take()
    node = volume.make_pet_node(scene, ct, model="unet", array=buffer)
    assert np.shares_memory(volume.voxels(node), buffer)
    assert not volume.voxels(node).any()


def test_a_ct_is_not_synthetic(ct: Any) -> None:
    assert not node_attributes.is_synthetic(ct)


def test_pet_has_the_transform_of_the_ct(scene: Any, ct: Any) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct.SetAndObserveTransformNodeID(transform.GetID())
    assert volume.make_pet_node(scene, ct, model="unet").GetTransformNodeID() == transform.GetID()


def test_slab_fills_its_slices_only(ct: Any, pet: Any) -> None:
    slab = np.arange(3 * 24 * 20, dtype=np.float32).reshape(3, 24, 20) + 1
    assert volume.fill_slab(pet, slab, slab_affine(ct, 4)) == (4, 7)
    assert np.array_equal(volume.voxels(pet)[4:7], slab)
    assert not volume.voxels(pet)[:4].any()
    assert not volume.voxels(pet)[7:].any()


def test_slabs_can_be_filled_in_any_order(ct: Any, pet: Any) -> None:
    full = np.random.default_rng(5).random((10, 24, 20), dtype=np.float32)
    for start, stop in ((4, 7), (7, 10), (0, 4)):
        volume.fill_slab(pet, full[start:stop], slab_affine(ct, start))
    assert np.array_equal(volume.voxels(pet), full)
    assert pet.GetAttribute(node_attributes.PRESENT) == "0:10"
    assert volume.missing_text(pet) == ""


def test_filling_is_in_place(ct: Any, pet: Any) -> None:
    image = pet.GetImageData()
    volume.fill_slab(pet, np.ones((2, 24, 20), dtype=np.float32), slab_affine(ct, 0))
    assert pet.GetImageData() is image


def test_missing_slices_are_counted(ct: Any, pet: Any) -> None:
    volume.fill_slab(pet, np.ones((3, 24, 20), dtype=np.float32), slab_affine(ct, 4))
    assert pet.GetAttribute(node_attributes.PRESENT) == "4:7"
    assert volume.missing_text(pet) == "7 of 10 slices not synthesised"


def test_reversed_slices_are_reoriented(ct: Any, pet: Any) -> None:
    slab = np.random.default_rng(6).random((3, 24, 20), dtype=np.float32)
    affine = slab_affine(ct, 4)
    other_end = affine.copy()
    other_end[:3, 3] += 2 * affine[:3, 2]
    other_end[:3, 2] *= -1
    assert volume.fill_slab(pet, slab[::-1], other_end) == (4, 7)
    assert np.array_equal(volume.voxels(pet)[4:7], slab)


@pytest.mark.parametrize("axis", [0, 1])
def test_reversed_rows_and_columns_are_reoriented(ct: Any, pet: Any, axis: int) -> None:
    slab = np.random.default_rng(7).random((3, 24, 20), dtype=np.float32)
    affine = slab_affine(ct, 4)
    length = slab.shape[2 - axis]
    other_way = affine.copy()
    other_way[:3, 3] += (length - 1) * affine[:3, axis]
    other_way[:3, axis] *= -1
    volume.fill_slab(pet, np.flip(slab, 2 - axis), other_way)
    assert np.array_equal(volume.voxels(pet)[4:7], slab)


@pytest.mark.parametrize("shift_voxels", [0.1, 0.5])
def test_slab_off_the_grid_is_refused(ct: Any, pet: Any, shift_voxels: float) -> None:
    affine = slab_affine(ct, 4)
    affine[:3, 3] += shift_voxels * affine[:3, 0]
    with pytest.raises(volume.SceneError, match=f"another grid than the CT .off by {shift_voxels:.3f} voxels"):
        volume.fill_slab(pet, np.ones((3, 24, 20), dtype=np.float32), affine)


def test_slab_with_another_spacing_is_refused(ct: Any, pet: Any) -> None:
    affine = slab_affine(ct, 0)
    affine[:3, 2] *= 1.01
    with pytest.raises(volume.SceneError, match="another grid"):
        volume.fill_slab(pet, np.ones((10, 24, 20), dtype=np.float32), affine)


def test_slab_outside_of_the_volume_is_refused(ct: Any, pet: Any) -> None:
    with pytest.raises(volume.SceneError, match="is not inside"):
        volume.fill_slab(pet, np.ones((3, 24, 20), dtype=np.float32), slab_affine(ct, 8))


def test_slice_at_a_point(ct: Any, pet: Any) -> None:
    ras = (volume.ijk_to_ras(ct) @ [5, 6, 7, 1])[:3]
    assert volume.slice_at(pet, ras) == 7
    assert volume.slice_at(pet, ras + np.array([0, 0, 500])) is None


def test_colour_image_is_refused(scene: Any) -> None:
    node = volume_node(scene, np.zeros((2, 3, 4), dtype=np.int16), RAS_TO_LPS, "photo")
    node.GetImageData().AllocateScalars(3, 3)
    with pytest.raises(volume.SceneError, match="photo is a colour image"):
        volume.voxels(node)


def test_pet_is_saved_exactly(tmp_path: Any, ct: Any, pet: Any, scene: Any) -> None:
    volume.fill_slab(pet, np.full((10, 24, 20), 2.5, dtype=np.float32), slab_affine(ct, 0))
    assert storage(scene, tmp_path / "pet.nrrd").WriteData(pet)
    again = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert storage(scene, tmp_path / "pet.nrrd").ReadData(again)
    assert np.abs(volume.ijk_to_ras(again) - volume.ijk_to_ras(ct)).max() < 1e-9
    assert np.array_equal(volume.voxels(again), volume.voxels(pet))


def storage(scene: Any, path: Any) -> Any:
    """Return Slicer's storage node for a volume file."""
    node = slicer.vtkMRMLVolumeArchetypeStorageNode()
    node.SetScene(scene)
    node.SetSingleFile(1)
    node.SetFileName(str(path))
    return node


@pytest.mark.parametrize(
    ("text", "present"),
    [("", []), ("3:5", [3, 4]), ("0:1,4:6", [0, 4, 5])],
)
def test_ranges_round_trip(text: str, present: list[int]) -> None:
    mask = node_attributes.ranges_mask(text, 8)
    assert list(np.flatnonzero(mask)) == present
    assert node_attributes.ranges_text(mask) == text
