"""Display of a PET: colours, window, threshold, fusion with the CT, and the annotation of every view.

Scene logic only: works in the desktop application and with `slicer-core`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import vtk

from CT2PETLib.i18n import _
from CT2PETLib.scene import node_attributes
from CT2PETLib.scene.volume import missing_text, present_slices

WINDOW_SUV = (0.0, 8.0)
ERROR_WINDOW_SUV = (0.0, 2.0)
MIN_ERROR_SUV = 0.05  # below it, as in air, only the CT is visible
THRESHOLD_SUV = 0.3  # below it only the CT is visible; air has at most 0.1 SUV, lung 0.4 and more
OPACITY = 0.5
CT_WINDOW_HU = (-160.0, 240.0)  # soft tissue
# Labels of the colour maps, and their nodes, which exist in every Slicer
COLOURS: dict[str, str] = {
    "PET heat": "vtkMRMLPETProceduralColorNodePET-Heat",
    "PET DICOM": "vtkMRMLPETProceduralColorNodePET-DICOM",
    "PET inverted grey": "vtkMRMLPETProceduralColorNodePET-MaximumIntensityProjection",
    "PET hot metal": "vtkMRMLPETProceduralColorNodePET-HotMetalBlue",
}
ANNOTATION_FONT_SIZE = 16


def show_suv(node: Any, *, window_suv: tuple[float, float], threshold_suv: float, colour: str) -> None:
    """Show a volume in SUV with a colour map of `COLOURS`; voxels below the threshold are transparent."""
    _display(node)
    display = node.GetDisplayNode()
    changing = display.StartModify()
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID(COLOURS[colour])
    display.SetWindowLevelMinMax(*window_suv)
    display.SetLowerThreshold(threshold_suv)
    display.SetUpperThreshold(1e6)
    if threshold_suv > 0:
        display.ApplyThresholdOn()
    else:
        display.ApplyThresholdOff()
    display.EndModify(changing)


def show_ct(node: Any, window_hu: tuple[float, float] = CT_WINDOW_HU) -> None:
    """Show a new CT in grey, with a soft-tissue window unless another one is given."""
    _display(node)
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*window_hu)


def window_of(node: Any) -> tuple[float, float] | None:
    """Return the window of a volume, if a user or a module has set one."""
    display = None if node is None else node.GetDisplayNode()
    if display is None or display.GetAutoWindowLevel():
        return None
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    return (low, high) if low < high else None


def fuse(composite_node: Any, *, background: Any, foreground: Any, opacity: float) -> None:
    """Show one volume over another in a slice view; either may be None."""
    changing = composite_node.StartModify()
    composite_node.SetBackgroundVolumeID(background.GetID() if background else None)
    composite_node.SetForegroundVolumeID(foreground.GetID() if foreground else None)
    composite_node.SetLabelVolumeID(None)
    composite_node.SetForegroundOpacity(opacity if background else 1.0)
    composite_node.EndModify(changing)


def view_annotation(scene: Any, composite_node: Any, *, synthetic_elsewhere: bool, real: Any = None) -> str:
    """Return the annotation of a slice view; empty if no view shows a synthetic PET.

    A view that shows `real`, a measured PET, says so, to distinguish it from a synthetic one in another view.
    """
    ids = (composite_node.GetBackgroundVolumeID(), composite_node.GetForegroundVolumeID())
    shown = [scene.GetNodeByID(i) for i in ids if i]
    synthetic = [node for node in shown if node_attributes.is_synthetic(node)]
    if not synthetic:
        measured = [node_attributes.MEASURED] if real is not None and real in shown else []
        return "\n".join([*measured, node_attributes.ELSEWHERE]) if synthetic_elsewhere else ""
    lines = [node_attributes.SYNTHETIC]
    for node in synthetic:
        role = node.GetAttribute(node_attributes.ROLE)
        if role != node_attributes.SYNTHETIC_PET:
            lines.append(_("{role}, SUV").format(role=role))
        elif missing_text(node):
            lines.append(missing_text(node))
    return "\n".join(lines)


def slice_annotation(node: Any, k: int | None) -> str:
    """Return a note that a slice is not synthesised yet; empty if it is, or if it is outside of the volume."""
    if k is None or present_slices(node)[k]:
        return ""
    return _("this slice is not synthesised yet")


def annotate(renderer: Any, text: str) -> Any:
    """Set the annotation at the top of a view, or hide it with an empty text; return its actor.

    A separate text actor, as the Data Probe overwrites the view's corner annotation.
    """
    actor = next((a for a in _text_actors(renderer)), None)
    if actor is None:
        actor = vtk.vtkTextActor()
        actor.SetObjectName(_ACTOR_NAME)
        actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        actor.SetPosition(0.5, 0.985)
        style = actor.GetTextProperty()
        style.SetJustificationToCentered()
        style.SetVerticalJustificationToTop()
        style.SetFontSize(ANNOTATION_FONT_SIZE)
        style.SetColor(1.0, 0.85, 0.2)
        style.SetShadow(True)
        style.BoldOn()
        renderer.AddViewProp(actor)
    actor.SetInput(text)
    actor.SetVisibility(bool(text))
    return actor


def annotation_text(renderer: Any) -> str:
    """Return the annotation of a view."""
    return next((actor.GetInput() for actor in _text_actors(renderer)), "") or ""


_ACTOR_NAME = "CT2PET.Mark"


def _text_actors(renderer: Any) -> Iterable[Any]:
    props = renderer.GetViewProps()
    for index in range(props.GetNumberOfItems()):
        actor = props.GetItemAsObject(index)
        if actor.GetObjectName() == _ACTOR_NAME:
            yield actor


def _display(node: Any) -> None:
    """Add a display node if the volume has none."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
