"""Layouts of views: fused three planes; CT, synthetic and real side by side; maximum intensity projection.

The projection is a slice view with a slab as thick as the volume that shows the maximum of each line: it needs no
graphics card, and shows the true SUV.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from CT2PETLib.scene import display
from CT2PETLib.scene.volume import ijk_to_ras, voxels

FUSED, SIDE_BY_SIDE, PROJECTION = 7301, 7302, 7303  # user layouts are numbered from 100; no known module uses these
# Singleton tags of our views: the side-by-side ones by their content
CT_VIEW, SYNTHETIC_VIEW, REAL_VIEW = "CT2PETct", "CT2PETsynthetic", "CT2PETreal"
PLOT_VIEW = "CT2PETplot"
CORONAL_VIEW, SAGITTAL_VIEW = "CT2PETcoronalMip", "CT2PETsagittalMip"
FUSED_VIEWS = ("Red", "Green", "Yellow")
_GROUP = {FUSED: 0, SIDE_BY_SIDE: 1, PROJECTION: 2}  # views of a group scroll and zoom together


def add_layouts(layout_node: Any) -> None:
    """Add our layouts to the application, or update them."""
    for number, xml in _descriptions().items():
        if layout_node.IsLayoutDescription(number):
            layout_node.SetLayoutDescription(number, xml)
        else:
            layout_node.AddLayoutDescription(number, xml)


def slice_node(scene: Any, tag: str) -> Any:
    """Return the slice node of a view, or None if the view was never shown."""
    return scene.GetSingletonNode(tag, "vtkMRMLSliceNode")


def composite_node(scene: Any, tag: str) -> Any:
    """Return the slice composite node of a view, or None."""
    return scene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode")


def show_fused(scene: Any, *, ct: Any, pet: Any, opacity: float) -> None:
    """Show the PET over the CT in the three planes."""
    for tag in FUSED_VIEWS:
        _show(scene, tag, background=ct, foreground=pet, opacity=opacity, linked=True)


def show_side_by_side(scene: Any, *, ct: Any, synthetic: Any, real: Any | None) -> None:
    """Show CT, synthetic and real PET in three views that scroll and zoom together."""
    _show(scene, CT_VIEW, background=ct, foreground=None, opacity=0.0, linked=True)
    _show(scene, SYNTHETIC_VIEW, background=synthetic, foreground=None, opacity=0.0, linked=True)
    _show(scene, REAL_VIEW, background=real, foreground=None, opacity=0.0, linked=True)


def show_projection(scene: Any, pet: Any) -> None:
    """Show the PET's maximum intensity projections from the front and from the side."""
    centre_mm, thickness_mm = _extent(pet)
    for tag in (CORONAL_VIEW, SAGITTAL_VIEW):
        _show(scene, tag, background=pet, foreground=None, opacity=0.0, linked=False)
        view = slice_node(scene, tag)
        if view is not None:
            view.JumpSliceByCentering(*centre_mm)
            view.SetSlabReconstructionEnabled(True)
            view.SetSlabReconstructionType(vtk.VTK_IMAGE_SLAB_MAX)
            view.SetSlabReconstructionThickness(thickness_mm)


def set_opacity(scene: Any, opacity: float) -> None:
    """Set the opacity of the PET in the three planes."""
    for tag in FUSED_VIEWS:
        composite = composite_node(scene, tag)
        if composite is not None and composite.GetBackgroundVolumeID():
            composite.SetForegroundOpacity(opacity)


def _show(scene: Any, tag: str, *, background: Any, foreground: Any, opacity: float, linked: bool) -> None:
    composite = composite_node(scene, tag)
    if composite is None:
        return
    display.fuse(composite, background=background, foreground=foreground, opacity=opacity)
    composite.SetLinkedControl(linked)
    composite.SetHotLinkedControl(linked)


def _extent(node: Any) -> tuple[np.ndarray[Any, Any], float]:
    """Return the centre of a volume in RAS mm, and the length of its diagonal in mm."""
    matrix, size = ijk_to_ras(node), np.array(voxels(node).shape[::-1], dtype=float)
    centre = (matrix @ np.append((size - 1) / 2, 1.0))[:3]
    return centre, float(np.linalg.norm(matrix[:3, :3] @ size))


def _descriptions() -> dict[int, str]:
    fused = "".join(_item(_slice(*view, FUSED)) for view in (
        ("Red", "Axial", "R", "#F34A33"), ("Green", "Coronal", "G", "#6EB04B"), ("Yellow", "Sagittal", "Y", "#EDD54C"),
    ))  # fmt: skip
    side_by_side = "".join(_item(_slice(*view, SIDE_BY_SIDE)) for view in (
        (CT_VIEW, "Axial", "CT", "#9A9A9A"), (SYNTHETIC_VIEW, "Axial", "SYN", "#E8A33D"),
        (REAL_VIEW, "Axial", "PET", "#4B8FB0"),
    ))  # fmt: skip
    projection = "".join(_item(_slice(*view, PROJECTION)) for view in (
        (CORONAL_VIEW, "Coronal", "MIP", "#6EB04B"), (SAGITTAL_VIEW, "Sagittal", "MIP", "#EDD54C"),
    ))  # fmt: skip
    label = '<property name="viewlabel" action="default">P</property>'
    plot = _item(f'<view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}">{label}</view>')
    rows = "".join(_item(f'<layout type="horizontal">{row}</layout>') for row in (side_by_side, plot))
    return {
        FUSED: f'<layout type="horizontal" split="true">{fused}</layout>',
        SIDE_BY_SIDE: f'<layout type="vertical" split="true">{rows}</layout>',
        PROJECTION: f'<layout type="horizontal" split="true">{projection}</layout>',
    }


def _item(inner: str) -> str:
    return f"<item>{inner}</item>"


def _slice(tag: str, orientation: str, label: str, colour: str, layout: int) -> str:
    properties = "".join(
        f'<property name="{name}" action="default">{value}</property>'
        for name, value in (
            ("orientation", orientation), ("viewlabel", label), ("viewcolor", colour), ("viewgroup", _GROUP[layout]),
        )
    )  # fmt: skip
    return f'<view class="vtkMRMLSliceNode" singletontag="{tag}">{properties}</view>'
