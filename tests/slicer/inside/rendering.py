"""Offscreen images of Slicer's slice compositing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer.util
import vtk
from CT2PETLib.scene import display
from CT2PETLib.scene.volume import ijk_to_ras, voxels
from vtk.util import numpy_support

import slicer

SIZE = (240, 200)  # pixels of the view


@dataclass(frozen=True)
class Picture:
    """Image of a slice view: RGB (rows from below, columns, 3), 0..255, and the matrices that locate voxels in it."""

    rgb: np.ndarray
    ras_to_xy: np.ndarray
    ijk_to_ras: np.ndarray

    def at_ijk(self, i: float, j: float, k: float) -> np.ndarray:
        """Return the colour at the centre of a voxel."""
        x, y = (self.ras_to_xy @ self.ijk_to_ras @ [i, j, k, 1.0])[:2]
        return self.rgb[round(y), round(x)].astype(float)


def rendered(
    app: Any, *, background: Any, foreground: Any, opacity: float, k: float, slice_node: Any = None,
    arrange: Callable[[], None] = lambda: None, size: tuple[int, int] = SIZE,
) -> Picture:  # fmt: skip
    """Return the image of an axial view at slice `k`; `arrange` may change the scene before it is rendered."""
    scene = app.GetMRMLScene()
    if slice_node is None:
        slice_node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
        slice_node.SetName("Red")
        slice_node.SetLayoutName("Red")
        slice_node.SetSingletonTag("Red")
    slice_node.SetDimensions(*size, 1)
    slice_node.SetOrientationToAxial() if slice_node.GetLayoutName() == "Red" else slice_node.SetOrientationToCoronal()
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(app)
    logic.SetMRMLScene(scene)
    logic.SetSliceNode(slice_node)
    composite = logic.GetSliceCompositeNode()
    composite.SetSingletonTag(slice_node.GetLayoutName())
    if background is not None or foreground is not None:
        display.fuse(composite, background=background, foreground=foreground, opacity=opacity)
    arrange()
    shown = scene.GetNodeByID(composite.GetBackgroundVolumeID() or composite.GetForegroundVolumeID())
    logic.FitSliceToBackground(*size)
    matrix = ijk_to_ras(shown)
    centre = matrix @ [*(np.array(voxels(shown).shape[::-1])[:2] / 2 - 0.5), k, 1.0]
    if not slice_node.GetSlabReconstructionEnabled():
        slice_node.JumpSliceByCentering(*centre[:3])
    logic.UpdatePipeline()
    producer = logic.GetImageDataConnection().GetProducer()
    producer.Update()
    image = producer.GetOutputDataObject(0)
    columns, rows, _ = image.GetDimensions()
    rgba = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)
    ras_to_xy = np.linalg.inv(slicer.util.arrayFromVTKMatrix(slice_node.GetXYToRAS()))
    picture = Picture(rgba[..., :3].copy(), ras_to_xy, matrix)
    # slice logics that outlive the scene crash the interpreter at exit
    logic.SetMRMLScene(None)
    return picture


def png(picture: np.ndarray, path: str) -> None:
    """Write RGB (rows from above, columns, 3) as PNG."""
    rows, columns, _ = picture.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(
        numpy_support.numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), deep=True)
    )
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(path)
    writer.SetInputData(image)
    writer.Write()
