"""Layouts are accepted by Slicer's parser, and their views show the intended volumes."""

from __future__ import annotations

from typing import Any

import pytest
from CT2PETLib.scene import layouts, volume

import slicer


@pytest.fixture
def layout_node(scene: Any) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    layouts.add_layouts(node)
    return node


@pytest.mark.parametrize("number", [layouts.FUSED, layouts.SIDE_BY_SIDE, layouts.PROJECTION])
def test_layout_is_parsed(layout_node: Any, number: int) -> None:
    layout_node.SetViewArrangement(number)
    assert layout_node.GetLayoutRootElement() is not None
    assert layout_node.GetCurrentLayoutDescription() == layout_node.GetLayoutDescription(number)


def test_layouts_are_added_once(layout_node: Any) -> None:
    before = list(layout_node.GetLayoutIndices()) if hasattr(layout_node.GetLayoutIndices(), "__iter__") else None
    layouts.add_layouts(layout_node)
    assert layout_node.IsLayoutDescription(layouts.FUSED)
    assert before is None or list(layout_node.GetLayoutIndices()) == before


def views(scene: Any, *tags: str) -> None:
    """Add the nodes that a layout adds in the desktop application."""
    for tag in tags:
        for class_name in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
            node = scene.CreateNodeByClass(class_name)
            node.SetSingletonTag(tag)
            node.SetLayoutName(tag)
            scene.AddNode(node)
            node.UnRegister(None)


@pytest.fixture
def pet(scene: Any, ct: Any) -> Any:
    return volume.make_pet_node(scene, ct, model="cascade3")


def test_fused_planes_show_the_pet_over_the_ct(scene: Any, ct: Any, pet: Any) -> None:
    views(scene, *layouts.FUSED_VIEWS)
    layouts.show_fused(scene, ct=ct, pet=pet, opacity=0.4)
    for tag in layouts.FUSED_VIEWS:
        composite = layouts.composite_node(scene, tag)
        assert (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()) == (ct.GetID(), pet.GetID())
        assert composite.GetForegroundOpacity() == 0.4


def test_opacity_is_set_in_all_planes(scene: Any, ct: Any, pet: Any) -> None:
    views(scene, *layouts.FUSED_VIEWS)
    layouts.show_fused(scene, ct=ct, pet=pet, opacity=0.4)
    layouts.set_opacity(scene, 0.7)
    assert [layouts.composite_node(scene, tag).GetForegroundOpacity() for tag in layouts.FUSED_VIEWS] == [0.7] * 3


def test_side_by_side_views_are_linked(scene: Any, ct: Any, pet: Any) -> None:
    views(scene, layouts.CT_VIEW, layouts.SYNTHETIC_VIEW, layouts.REAL_VIEW)
    layouts.show_side_by_side(scene, ct=ct, synthetic=pet, real=None)
    composites = [
        layouts.composite_node(scene, t) for t in (layouts.CT_VIEW, layouts.SYNTHETIC_VIEW, layouts.REAL_VIEW)
    ]
    assert [node.GetBackgroundVolumeID() for node in composites] == [ct.GetID(), pet.GetID(), None]
    assert all(node.GetLinkedControl() and node.GetHotLinkedControl() for node in composites)


def test_missing_views_are_ignored(scene: Any, ct: Any, pet: Any) -> None:
    layouts.show_fused(scene, ct=ct, pet=pet, opacity=0.5)
    assert layouts.composite_node(scene, "Red") is None


def test_projection_is_as_thick_as_the_volume(scene: Any, pet: Any) -> None:
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    views(scene, layouts.CORONAL_VIEW, layouts.SAGITTAL_VIEW)
    layouts.show_projection(scene, pet)
    node = layouts.slice_node(scene, layouts.CORONAL_VIEW)
    assert node.GetSlabReconstructionEnabled()
    # the longest line through 20 x 24 x 10 voxels of 0.977 x 0.977 x 3.27 mm
    assert node.GetSlabReconstructionThickness() == pytest.approx((19.53125**2 + 23.4375**2 + 32.7**2) ** 0.5, abs=1e-3)
