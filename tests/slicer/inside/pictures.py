"""Render the pictures of docs/slicer with a running server: python pictures.py URL FOLDER (in the tests' environment).

Qt renders the panel from the real .ui, Slicer's own compositing the slices, with the annotation that the module set in
the views. Use a server of phantoms, so that no picture shows a patient (main.py phantom STUDIES --patients 12), and
train it first, so that it has a verdict.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer.util
from panels import opened
from PIL import Image, ImageDraw, ImageFont
from vtk.util import numpy_support

import slicer

VIEW = (430, 400)
GAP = 6
TIMEOUT_S = 1800  # a step takes seconds, but minutes on a busy machine
HOT_SUV = 2.5
HELD_OUT_ROW = 2  # in the list of studies: PHANTOM_0010, whom no model is trained on
YELLOW = (255, 217, 51)


def until(panel: Any, condition: Callable[[], bool]) -> None:
    """Call the panel's timer handler until a condition holds."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{panel.ui.messageLabel.text()} | {panel.ui.progressLabel.text()}")
        panel.tick()
        time.sleep(0.02)


def view_picture(view: Any) -> Image.Image:
    """Return what a slice view shows, with its annotation."""
    from CT2PETLib.scene.display import annotation_text

    view.node.SetDimensions(*VIEW, 1)
    if view.logic.GetSliceCompositeNode().GetBackgroundVolumeID() is None:
        picture = Image.new("RGB", VIEW)
    else:
        view.logic.FitSliceToBackground(*VIEW)
        view.logic.UpdatePipeline()
        producer = view.logic.GetImageDataConnection().GetProducer()
        producer.Update()
        image = producer.GetOutputDataObject(0)
        columns, rows, _ = image.GetDimensions()
        rgba = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
        picture = Image.fromarray(np.ascontiguousarray(rgba[::-1, :, :3]).astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for line, text in enumerate(annotation_text(view.renderer).splitlines()):
        draw.text((VIEW[0] / 2, 6 + 19 * line), text, fill=YELLOW, font=font, anchor="ma")
    return picture


def row_of(panel: Any, manager: Any) -> Image.Image:
    """Return the slice views of the current layout in a row."""
    panel.tick()
    pictures = [view_picture(manager.sliceWidget(name)) for name in manager.sliceViewNames()]
    row = Image.new("RGB", (len(pictures) * (VIEW[0] + GAP) - GAP, VIEW[1]), (60, 60, 60))
    for number, picture in enumerate(pictures):
        row.paste(picture, (number * (VIEW[0] + GAP), 0))
    return row


def look_at(scene: Any, node: Any, ijk: tuple[float, float, float]) -> None:
    """Centre every slice view on a voxel."""
    from CT2PETLib.scene.volume import ijk_to_ras

    point = ijk_to_ras(node) @ [*ijk, 1.0]
    nodes = scene.GetNodesByClass("vtkMRMLSliceNode")
    nodes.UnRegister(None)
    for index in range(nodes.GetNumberOfItems()):
        nodes.GetItemAsObject(index).JumpSliceByCentering(*point[:3])


def hottest(node: Any) -> tuple[float, float, float]:
    """Return the voxel (i, j, k) of the highest uptake."""
    from CT2PETLib.scene.volume import voxels

    k, j, i = np.unravel_index(int(np.argmax(voxels(node))), voxels(node).shape)
    return float(i), float(j), float(k)


def hot_segment(scene: Any, pet: Any, name: str) -> Any:
    """Return a segmentation with one segment: the part of a PET above 2.5 SUV."""
    from CT2PETLib.scene.volume import voxels

    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    slicer.util.updateVolumeFromArray(labels, (voxels(pet) > HOT_SUV).astype(np.uint8))
    labels.CopyOrientation(pet)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, segmentation)
    segmentation.GetSegmentation().GetNthSegment(0).SetName(name)
    scene.RemoveNode(labels)
    return segmentation


def panel_picture(panel: Any, path: Path, sections: tuple[str, ...]) -> None:
    """Save a picture of the panel with these sections open."""
    from desktop.widgets import ctkCollapsibleButton
    from PySide6.QtWidgets import QApplication, QTextBrowser

    for section in panel.parent.findChildren(ctkCollapsibleButton):
        section.setProperty("collapsed", section.objectName() not in sections)
    panel.refresh()
    panel.parent.resize(470, 200)
    for _ in range(4):
        QApplication.processEvents()
        panel.parent.resize(470, panel.parent.layout().totalHeightForWidth(470))
    panel.parent.show()
    QApplication.processEvents()
    for browser in panel.parent.findChildren(QTextBrowser):
        browser.verticalScrollBar().setValue(0)
    panel.parent.grab().save(str(path))


def save_pictures(app: Any, url: str, folder: Path) -> None:
    """Follow a clinician's workflow and save every picture."""
    from CT2PETLib.scene import views

    scene = app.GetMRMLScene()
    with opened(app, folder / "settings") as panel:
        ui, manager = panel.ui, views.layout_manager()
        ui.addressBox.setCurrentText(url)
        ui.testButton.click()
        until(panel, lambda: panel.panel.server is not None and ui.studyTable.rowCount() > 0)
        ui.studyTable.setCurrentCell(HELD_OUT_ROW, 0)
        ui.loadStudyButton.click()
        until(panel, lambda: panel.panel.parameters.ct is not None)
        ct = panel.panel.parameters.ct
        look_at(scene, ct, tuple(np.array(ct.GetImageData().GetDimensions()) / 2))  # type: ignore[arg-type]
        panel.panel.parameters.uncertainty = True
        ui.applyButton.click()
        until(panel, lambda: panel.panel.parameters.synthetic is not None)
        row_of(panel, manager).save(folder / "growing.png")
        until(panel, lambda: not panel.synthesise.is_active)
        pet = panel.panel.parameters.synthetic
        ui.loadRealButton.click()
        until(panel, lambda: panel.panel.parameters.real is not None)
        ui.fusedButton.click()
        look_at(scene, ct, hottest(pet))
        row_of(panel, manager).save(folder / "fused.png")
        ui.errorMapButton.click()
        row_of(panel, manager).save(folder / "expected-error.png")
        ui.sideBySideButton.click()
        look_at(scene, ct, hottest(pet))
        row_of(panel, manager).save(folder / "compared.png")
        ui.projectionButton.click()
        row_of(panel, manager).save(folder / "projection.png")
        ui.compareButton.click()
        until(panel, lambda: ui.figuresTable.rowCount() == 2)
        ui.differenceButton.click()
        look_at(scene, ct, hottest(pet))
        row_of(panel, manager).save(folder / "difference.png")
        panel_picture(panel, folder / "panel.png", ("serverSection", "ctSection", "synthesiseSection", "cardSection"))
        panel.panel.parameters.segmentation = hot_segment(scene, panel.panel.parameters.real, "hot region")
        ui.segmentButton.click()
        until(panel, lambda: bool(ui.messageLabel.text()))
        panel_picture(panel, folder / "panel-show.png", ("showSection", "compareSection"))
        panel.panel.parameters.pair_ct, panel.panel.parameters.pair_pet = ct, panel.panel.parameters.real
        ui.checkPairButton.click()
        until(panel, lambda: ui.pairTable.rowCount() > 0)
        panel_picture(panel, folder / "panel-learn.png", ("giveBackSection", "trainSection"))


def main() -> None:
    """Save the pictures in the folder given on the command line."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    scene = slicer.vtkMRMLScene()
    app = slicer.vtkSlicerApplicationLogic()
    app.SetMRMLScene(scene)
    colours = slicer.vtkSlicerColorLogic()
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    app.SetModuleLogic("Colors", colours)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.mrmlScene = scene
    save_pictures(app, url, folder)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "slicer" / "CT2PET")]
    main()
    sys.stdout.flush()
    import os

    os._exit(0)
