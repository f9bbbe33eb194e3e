"""Views of the desktop application: layouts, displayed slice, annotations. Does nothing without a main window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import slicer
from CT2PETLib.scene import display, layouts, node_attributes
from CT2PETLib.scene.volume import slice_at


def layout_manager() -> Any:
    """Return the application's layout manager; None without a main window, as in tests."""
    app = getattr(slicer, "app", None)
    return app.layoutManager() if app is not None else None


def switch_to(layout: int) -> None:
    """Show one of our layouts."""
    manager = layout_manager()
    if manager is not None:
        layouts.add_layouts(manager.layoutLogic().GetLayoutNode())
        manager.setLayout(layout)


def show_plots() -> None:
    """Show a layout with a plot view."""
    switch_to(layouts.SIDE_BY_SIDE)


def fit() -> None:
    """Fit every slice view to its volumes."""
    manager = layout_manager()
    if manager is not None:
        for name in manager.sliceViewNames():
            manager.sliceWidget(name).sliceLogic().FitSliceToBackground()


def show_alone(scene: Any, node: Any) -> None:
    """Show one volume, and nothing else, in every slice view."""
    composites = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    composites.UnRegister(None)
    for index in range(composites.GetNumberOfItems()):
        display.fuse(composites.GetItemAsObject(index), background=node, foreground=None, opacity=0.0)
    fit()


def displayed_slice(scene: Any, node: Any) -> int | None:
    """Return the slice of a volume that the axial view displays, as index of the third axis; None if it shows none."""
    for tag in ("Red", layouts.CT_VIEW):
        view = layouts.slice_node(scene, tag)
        if view is None:
            continue
        matrix = view.GetSliceToRAS()
        k = slice_at(node, np.array([matrix.GetElement(row, 3) for row in range(3)]))
        if k is not None:
            return k
    return None


def annotate_views(scene: Any, synthetic: Any, real: Any) -> None:
    """Annotate every view with what it shows of a synthetic and a measured PET."""
    manager = layout_manager()
    if manager is None:
        return
    views = list(_slice_views(manager))
    synthetic_shown = any(_shows_synthetic(scene, composite) for _, composite in views)
    for view, composite in views:
        text = display.view_annotation(scene, composite, synthetic_elsewhere=synthetic_shown, real=real)
        shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        if synthetic is not None and synthetic.GetID() in shown:
            text = "\n".join(filter(None, (text, _slice_note(view, synthetic))))
        _write(view, text)
    for index in range(manager.threeDViewCount):
        _write(manager.threeDWidget(index).threeDView(), node_attributes.ELSEWHERE if synthetic_shown else "")


def _slice_views(manager: Any) -> Iterator[tuple[Any, Any]]:
    for name in manager.sliceViewNames():
        widget = manager.sliceWidget(name)
        yield widget.sliceView(), widget.mrmlSliceCompositeNode()


def _shows_synthetic(scene: Any, composite: Any) -> bool:
    shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    return any(node_attributes.is_synthetic(scene.GetNodeByID(i)) for i in shown if i)


def _slice_note(view: Any, synthetic: Any) -> str:
    """Return a note if the slice of an axial view is not synthesised yet; other views intersect all slices."""
    matrix = view.mrmlSliceNode().GetSliceToRAS()
    if abs(matrix.GetElement(2, 2)) < 0.9:
        return ""
    centre = np.array([matrix.GetElement(row, 3) for row in range(3)])
    return display.slice_annotation(synthetic, slice_at(synthetic, centre))


def _write(view: Any, text: str) -> None:
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    if renderer is None or display.annotation_text(renderer) == text:
        return
    display.annotate(renderer, text)
    view.scheduleRender()
