"""Colours, window, threshold and fusion, against values of Slicer's compositing worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import vtk
from conftest import slab_affine
from CT2PETLib.scene import display, layouts, node_attributes, volume
from rendering import rendered


@pytest.fixture
def pet(scene: Any, ct: Any) -> Any:
    """Return a synthetic PET: 4 SUV in the hot box, 1 SUV in the body, 0 in air."""
    node = volume.make_pet_node(scene, ct, model="cascade3")
    hu = volume.voxels(ct)
    suv = np.where(hu > 60, 4.0, np.where(hu > 0, 1.0, 0.0)).astype(np.float32)
    volume.fill_slab(node, suv, slab_affine(ct, 0))
    display.show_suv(node, window_suv=(0, 8), threshold_suv=0.3, colour="PET heat")
    return node


@pytest.mark.parametrize("colour", list(display.COLOURS))
def test_colour_map_exists_in_slicer(scene: Any, colour: str) -> None:
    assert scene.GetNodeByID(display.COLOURS[colour]) is not None


def test_window_is_fixed_at_0_to_8_suv(pet: Any) -> None:
    shown = pet.GetDisplayNode()
    assert (shown.GetWindowLevelMin(), shown.GetWindowLevelMax()) == (0.0, 8.0)
    assert not shown.GetAutoWindowLevel()
    assert shown.GetColorNodeID() == "vtkMRMLPETProceduralColorNodePET-Heat"


def test_threshold_of_zero_is_switched_off(pet: Any) -> None:
    display.show_suv(pet, window_suv=(0, 8), threshold_suv=0.0, colour="PET heat")
    assert not pet.GetDisplayNode().GetApplyThreshold()


def heat(scene: Any, suv: float) -> np.ndarray:
    """Return the colour of PET-Heat at an SUV in the window 0 to 8, 0..255."""
    node = scene.GetNodeByID("vtkMRMLPETProceduralColorNodePET-Heat")
    function = node.GetColorTransferFunction()
    low, high = function.GetRange()
    return 255 * np.array(function.GetColor(low + (high - low) * suv / 8.0))


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
def test_fusion_is_ct_times_one_minus_opacity_plus_pet_times_opacity(
    app: Any, ct: Any, pet: Any, opacity: float
) -> None:
    scene = app.GetMRMLScene()
    display.show_ct(ct)
    # the hot box holds 80 HU: (80 + 160) / 400 = 0.6 of white = 153
    expected = (1 - opacity) * 153.0 + opacity * heat(scene, 4.0)
    picture = rendered(app, background=ct, foreground=pet, opacity=opacity, k=4)
    assert picture.at_ijk(8, 9, 4) == pytest.approx(expected, abs=2.5)


def test_pet_below_the_threshold_is_transparent(app: Any, ct: Any, pet: Any) -> None:
    display.show_ct(ct)
    display.show_suv(pet, window_suv=(0, 8), threshold_suv=2.0, colour="PET heat")
    picture = rendered(app, background=ct, foreground=pet, opacity=1.0, k=4)
    # body: 40 HU = 200/400 of white, its PET of 1 SUV hidden; the hot box: PET alone
    assert picture.at_ijk(5, 6, 4) == pytest.approx([127.5] * 3, abs=1.5)
    assert picture.at_ijk(8, 9, 4) == pytest.approx(heat(app.GetMRMLScene(), 4.0), abs=2.5)


def test_missing_slices_show_only_the_ct(app: Any, scene: Any, ct: Any) -> None:
    node = volume.make_pet_node(scene, ct, model="cascade3")
    volume.fill_slab(node, np.full((2, 24, 20), 5.0, dtype=np.float32), slab_affine(ct, 0))
    display.show_suv(node, window_suv=(0, 8), threshold_suv=0.3, colour="PET heat")
    display.show_ct(ct)
    ct.GetDisplayNode().SetWindowLevelMinMax(-160, 240)
    picture = rendered(app, background=ct, foreground=node, opacity=1.0, k=6)
    assert picture.at_ijk(5, 6, 6) == pytest.approx([127.5] * 3, abs=1.5)


def composite(scene: Any, background: Any, foreground: Any) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    display.fuse(node, background=background, foreground=foreground, opacity=0.5)
    return node


def test_view_with_a_synthetic_pet_is_annotated(scene: Any, ct: Any, pet: Any) -> None:
    text = display.view_annotation(scene, composite(scene, ct, pet), synthetic_elsewhere=True)
    assert text == "SYNTHETIC PET - NOT FOR DIAGNOSIS"


def test_view_without_a_synthetic_pet_refers_to_other_views(scene: Any, ct: Any) -> None:
    text = display.view_annotation(scene, composite(scene, ct, None), synthetic_elsewhere=True)
    assert text == "in another view: SYNTHETIC PET - NOT FOR DIAGNOSIS"


def test_views_are_not_annotated_without_a_synthetic_pet(scene: Any, ct: Any) -> None:
    assert display.view_annotation(scene, composite(scene, ct, None), synthetic_elsewhere=False) == ""


def test_view_shows_the_number_of_missing_slices(scene: Any, ct: Any) -> None:
    node = volume.make_pet_node(scene, ct, model="cascade3")
    volume.fill_slab(node, np.ones((4, 24, 20), dtype=np.float32), slab_affine(ct, 3))
    text = display.view_annotation(scene, composite(scene, ct, node), synthetic_elsewhere=True)
    assert text.splitlines() == [node_attributes.SYNTHETIC, "6 of 10 slices not synthesised"]
    assert display.slice_annotation(node, 2) == "this slice is not synthesised yet"
    assert display.slice_annotation(node, 3) == ""


def test_annotation_is_updated_in_place() -> None:
    renderer = vtk.vtkRenderer()
    display.annotate(renderer, "one")
    actor = display.annotate(renderer, node_attributes.SYNTHETIC)
    assert renderer.GetViewProps().GetNumberOfItems() == 1
    assert (actor.GetInput(), actor.GetVisibility()) == (node_attributes.SYNTHETIC, 1)
    assert not display.annotate(renderer, "").GetVisibility()


def test_projection_shows_the_maximum_of_each_line(app: Any, scene: Any, pet: Any) -> None:
    view = scene.CreateNodeByClass("vtkMRMLSliceNode")
    view.UnRegister(None)
    view.SetSingletonTag(layouts.CORONAL_VIEW)
    view.SetLayoutName(layouts.CORONAL_VIEW)
    picture = rendered(app, background=None, foreground=None, opacity=0, k=4, slice_node=scene.AddNode(view),
                       arrange=lambda: layouts.show_projection(scene, pet))  # fmt: skip
    # the line through the hot box shows its 4 SUV
    assert picture.at_ijk(8, 9, 4) == pytest.approx(heat(scene, 4.0), abs=4)
    # and another line the body's 1 SUV
    assert picture.at_ijk(4, 6, 8) == pytest.approx(heat(scene, 1.0), abs=4)
