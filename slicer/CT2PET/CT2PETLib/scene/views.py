"""The views of the desktop program: layouts, what is on screen, words in them. Does nothing without a window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import slicer
from CT2PETLib.scene import display, layouts, node_attributes
from CT2PETLib.scene.volume import slice_at


def layout_manager() -> Any:
    """Return the program's layout manager; None without a main window, as in a test on the command line."""
    app = getattr(slicer, "app", None)
    return app.layoutManager() if app is not None else None


def switch_to(layout: int) -> None:
    """Show one of our layouts."""
    manager = layout_manager()
    if manager is not None:
        layouts.add_layouts(manager.layoutLogic().GetLayoutNode())
        manager.setLayout(layout)


def plots() -> None:
    """Show a layout with a plot view."""
    switch_to(layouts.SIDE_BY_SIDE)


def fit() -> None:
    """Let every slice view show the whole of its volumes."""
    manager = layout_manager()
    if manager is not None:
        for name in manager.sliceViewNames():
            manager.sliceWidget(name).sliceLogic().FitSliceToBackground()


def show_alone(scene: Any, node: Any) -> None:
    """Show one volume in every slice view, whole."""
    composites = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    composites.UnRegister(None)
    for index in range(composites.GetNumberOfItems()):
        display.fuse(composites.GetItemAsObject(index), background=node, foreground=None, opacity=0.0)
    fit()


def displayed_slice(scene: Any, node: Any) -> int | None:
    """Return the slice of a volume that the axial view shows, as index of the third axis; None where it shows none."""
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
    """Write into every view what it shows of a synthetic and a measured PET; nothing where no view shows any."""
    manager = layout_manager()
    if manager is None:
        return
    views = list(_slice_views(manager))
    anywhere = any(_shows_synthetic(scene, composite) for _, composite in views)
    for view, composite in views:
        text = display.view_annotation(scene, composite, synthetic_elsewhere=anywhere, real=real)
        shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        if synthetic is not None and synthetic.GetID() in shown:
            text = "\n".join(filter(None, (text, _slice_words(view, synthetic))))
        _write(view, text)
    for index in range(manager.threeDViewCount):
        _write(manager.threeDWidget(index).threeDView(), node_attributes.BESIDE if anywhere else "")


def _slice_views(manager: Any) -> Iterator[tuple[Any, Any]]:
    for name in manager.sliceViewNames():
        widget = manager.sliceWidget(name)
        yield widget.sliceView(), widget.mrmlSliceCompositeNode()


def _shows_synthetic(scene: Any, composite: Any) -> bool:
    shown = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
    return any(node_attributes.is_synthetic(scene.GetNodeByID(i)) for i in shown if i)


def _slice_words(view: Any, synthetic: Any) -> str:
    """Return that the slice in this view has not come; of axial views, the others cut through all slices."""
    matrix = view.mrmlSliceNode().GetSliceToRAS()
    if abs(matrix.GetElement(2, 2)) < 0.9:
        return ""
    centre = np.array([matrix.GetElement(row, 3) for row in range(3)])
    return display.slice_annotation(synthetic, slice_at(synthetic, centre))


def _write(view: Any, text: str) -> None:
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    if renderer is None or display.annotation_text(renderer) == text:
        return
    display.mark(renderer, text)
    view.scheduleRender()
