"""How a PET is shown: colours, window, threshold, fused over the CT, with words in every view.

Scene logic only: works in the desktop program and on `slicer-core`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import vtk

from CT2PETLib.scene import node_attributes
from CT2PETLib.scene.volume import missing_text, present_slices

WINDOW_SUV = (0.0, 8.0)
ERROR_WINDOW_SUV = (0.0, 2.0)
MIN_ERROR_SUV = 0.05  # below it, as in air, the CT alone is seen
THRESHOLD_SUV = 0.3  # below it the CT alone is seen; air draws at most 0.1 SUV, lung 0.4 and more
OPACITY = 0.5
CT_WINDOW_HU = (-160.0, 240.0)  # soft tissue
# Colours as the user reads them, and the nodes that every Slicer has
COLOURS: dict[str, str] = {
    "PET heat": "vtkMRMLPETProceduralColorNodePET-Heat",
    "PET DICOM": "vtkMRMLPETProceduralColorNodePET-DICOM",
    "PET inverted grey": "vtkMRMLPETProceduralColorNodePET-MaximumIntensityProjection",
    "PET hot metal": "vtkMRMLPETProceduralColorNodePET-HotMetalBlue",
}
ANNOTATION_FONT_SIZE = 16


def show_suv(node: Any, *, window_suv: tuple[float, float], threshold_suv: float, colour: str) -> None:
    """Show a volume in SUV with a colour of `COLOURS`; what lies below the threshold is transparent."""
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


def show_ct(node: Any) -> None:
    """Show a CT that has just come in grey, with a soft-tissue window."""
    _display(node)
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(*CT_WINDOW_HU)


def fuse(composite_node: Any, *, background: Any, foreground: Any, opacity: float) -> None:
    """Lay one volume over another in a slice view; either may be None."""
    changing = composite_node.StartModify()
    composite_node.SetBackgroundVolumeID(background.GetID() if background else None)
    composite_node.SetForegroundVolumeID(foreground.GetID() if foreground else None)
    composite_node.SetLabelVolumeID(None)
    composite_node.SetForegroundOpacity(opacity if background else 1.0)
    composite_node.EndModify(changing)


def view_annotation(scene: Any, composite_node: Any, *, synthetic_elsewhere: bool, real: Any = None) -> str:
    """Return what a slice view must say of the volumes in it; empty where nothing synthetic is shown anywhere.

    A view that shows `real`, a measured PET, says so: beside a synthetic one it must not be taken for it.
    """
    ids = (composite_node.GetBackgroundVolumeID(), composite_node.GetForegroundVolumeID())
    shown = [scene.GetNodeByID(i) for i in ids if i]
    synthetic = [node for node in shown if node_attributes.is_synthetic(node)]
    if not synthetic:
        measured = [node_attributes.MEASURED] if real is not None and real in shown else []
        return "\n".join([*measured, node_attributes.BESIDE]) if synthetic_elsewhere else ""
    lines = [node_attributes.SYNTHETIC]
    for node in synthetic:
        role = node.GetAttribute(node_attributes.ROLE)
        if role != node_attributes.SYNTHETIC_PET:
            lines.append(f"shown: {role}, SUV")
        elif missing_text(node):
            lines.append(missing_text(node))
    return "\n".join(lines)


def slice_annotation(node: Any, k: int | None) -> str:
    """Return that the slice on screen has not come yet; empty where it has, or where the view is outside the volume."""
    if k is None or present_slices(node)[k]:
        return ""
    return "this slice is not synthesised yet"


def mark(renderer: Any, text: str) -> Any:
    """Write words into a view's upper edge, or take them away with an empty text; return the actor.

    A text actor of its own rather than the view's corner annotation, which the Data Probe rewrites.
    """
    actor = next((a for a in _text_actors(renderer)), None)
    if actor is None:
        actor = vtk.vtkTextActor()
        actor.SetObjectName(_MARK)
        actor.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
        actor.SetPosition(0.5, 0.985)
        words = actor.GetTextProperty()
        words.SetJustificationToCentered()
        words.SetVerticalJustificationToTop()
        words.SetFontSize(ANNOTATION_FONT_SIZE)
        words.SetColor(1.0, 0.85, 0.2)
        words.SetShadow(True)
        words.BoldOn()
        renderer.AddViewProp(actor)
    actor.SetInput(text)
    actor.SetVisibility(bool(text))
    return actor


def annotation_text(renderer: Any) -> str:
    """Return what `mark` wrote into a view."""
    return next((actor.GetInput() for actor in _text_actors(renderer)), "") or ""


_MARK = "CT2PET.Mark"


def _text_actors(renderer: Any) -> Iterable[Any]:
    props = renderer.GetViewProps()
    for index in range(props.GetNumberOfItems()):
        actor = props.GetItemAsObject(index)
        if actor.GetObjectName() == _MARK:
            yield actor


def _display(node: Any) -> None:
    """Give the node a display node where it has none."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
