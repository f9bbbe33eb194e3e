"""A scene of the core libraries of 3D Slicer, with an oblique CT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import slicer.util
import vtk

import slicer


@contextmanager
def application_logic() -> Iterator[Any]:
    """Yield an application logic with a scene and its colours, and clear the scene afterwards."""
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    colours = slicer.vtkSlicerColorLogic()
    vtk.vtkObject.GlobalWarningDisplayOff()  # about missing colour files of the desktop application
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    vtk.vtkObject.GlobalWarningDisplayOn()
    logic.SetModuleLogic("Colors", colours)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    slicer.mrmlScene = scene
    yield logic
    slicer.mrmlScene = None
    scene.Clear(1)


@pytest.fixture
def app() -> Iterator[Any]:
    """Yield an application logic, see `application_logic`."""
    with application_logic() as logic:
        yield logic


@pytest.fixture
def scene(app: Any) -> Any:
    """Return the scene of `app`."""
    return app.GetMRMLScene()


def oblique_matrix() -> np.ndarray:
    """Return an affine to RAS in mm: rotated by 7 degrees about z, 0.977 x 0.977 x 3.27 mm, far from the origin."""
    angle = np.deg2rad(7.0)
    axes = np.array([[-np.cos(angle), np.sin(angle), 0], [-np.sin(angle), -np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag([0.9765625, 0.9765625, 3.27])
    matrix[:3, 3] = [187.123456, 203.654321, -812.5]
    return matrix


def volume_node(scene: Any, array: np.ndarray, matrix: np.ndarray, name: str = "CT") -> Any:
    """Return a scalar volume node of the scene."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


@pytest.fixture
def ct(scene: Any) -> Any:
    """Return a CT of 10 slices of 24 x 20 voxels: air, and a body of 40 HU with a hot box of 80 HU."""
    array = np.full((10, 24, 20), -1000, dtype=np.int16)
    array[:, 4:20, 3:17] = 40
    array[3:6, 8:12, 7:11] = 80
    return volume_node(scene, array, oblique_matrix())


RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def slab_affine(node: Any, start: int) -> np.ndarray:
    """Return the affine in LPS mm of a slab that begins with slice `start` of a node's grid."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ras = slicer.util.arrayFromVTKMatrix(matrix)
    shift = np.eye(4)
    shift[2, 3] = start
    return RAS_TO_LPS @ ras @ shift
