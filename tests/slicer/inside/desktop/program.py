"""Installs the stand-ins where the module expects the program: `slicer.app`, `qt`, the base classes of the template."""

from __future__ import annotations

import sys
import types
import unittest
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer.util
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtUiTools import QUiLoader

import slicer
from desktop import parameters
from desktop.widgets import STAND_INS, ctkCollapsibleButton

MODULE = Path(__file__).resolve().parents[4] / "slicer" / "CT2PET"


class _View:
    """A slice view: its nodes and logic are Slicer's, its window was never opened."""

    def __init__(self, app: Any, tag: str, orientation: str) -> None:
        scene = app.GetMRMLScene()
        node = scene.CreateNodeByClass("vtkMRMLSliceNode")  # with the scene's orientations
        node.SetName(tag)
        node.SetLayoutName(tag)
        node.SetSingletonTag(tag)
        node = scene.AddNode(node)
        node.UnRegister(None)
        node.SetOrientation(orientation)
        node.SetDimensions(320, 300, 1)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(app)
        self.logic.SetMRMLScene(scene)
        self.logic.SetSliceNode(node)
        self.logic.GetSliceCompositeNode().SetSingletonTag(tag)
        self.node = node
        self.renderer = vtk.vtkRenderer()

    def sliceView(self) -> Any:
        return self

    def renderWindow(self) -> Any:
        """A window without a screen: it has a renderer, which is all that the module uses."""
        return types.SimpleNamespace(GetRenderers=lambda: types.SimpleNamespace(GetFirstRenderer=lambda: self.renderer))

    def mrmlSliceNode(self) -> Any:
        return self.node

    def mrmlSliceCompositeNode(self) -> Any:
        return self.logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self.logic

    def scheduleRender(self) -> None:
        pass


class LayoutManager:
    """Makes the slice views that a layout names."""

    threeDViewCount = 0

    def __init__(self, app: Any) -> None:
        self._app = app
        self._node = app.GetMRMLScene().AddNewNodeByClass("vtkMRMLLayoutNode")
        self.views: dict[str, _View] = {}
        self._shown: list[str] = []
        for tag, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
            self._view(tag, orientation)
        self._shown = ["Red", "Green", "Yellow"]

    def layoutLogic(self) -> Any:
        return types.SimpleNamespace(GetLayoutNode=lambda: self._node)

    def setLayout(self, number: int) -> None:
        self._node.SetViewArrangement(number)
        root = ET.fromstring(self._node.GetLayoutDescription(number))
        self._shown = []
        for view in root.iter("view"):
            if view.get("class") == "vtkMRMLSliceNode":
                orientation = next(p.text for p in view.iter("property") if p.get("name") == "orientation")
                self._view(str(view.get("singletontag")), str(orientation))
                self._shown.append(str(view.get("singletontag")))
            elif self._app.GetMRMLScene().GetSingletonNode(view.get("singletontag"), view.get("class")) is None:
                node = self._app.GetMRMLScene().CreateNodeByClass(view.get("class"))
                node.SetSingletonTag(view.get("singletontag"))
                self._app.GetMRMLScene().AddNode(node)
                node.UnRegister(None)

    def sliceViewNames(self) -> list[str]:
        return self._shown

    def sliceWidget(self, name: str) -> _View:
        return self.views[name]

    def _view(self, tag: str, orientation: str) -> None:
        if tag not in self.views:
            self.views[tag] = _View(self._app, tag, orientation)


class _Loader(QUiLoader):
    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        if class_name in STAND_INS:
            widget = STAND_INS[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)


def load_ui(path: str) -> Any:
    """Return the widget of a .ui file; each connection of the scene in it is made by hand, as PySide knows no MRML."""
    root = ET.parse(path).getroot()
    connections = root.find("connections")
    receivers = []
    for connection in list(connections if connections is not None else []):
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)":
            receivers.append(connection.findtext("receiver"))
            connections.remove(connection)  # type: ignore[union-attr]
    buffer = QtCore.QBuffer()
    buffer.setData(ET.tostring(root))
    widget = _Loader().load(buffer)
    for name in receivers:
        widget.mrmlSceneChanged.connect(widget.findChild(QtWidgets.QWidget, name).setMRMLScene)
    for section in widget.findChildren(ctkCollapsibleButton):
        section.fold()
    widget._loaded = True
    return widget


class _Module:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class _Widget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent or QtWidgets.QWidget()
        self.layout = QtWidgets.QVBoxLayout(self.parent)

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:
        return str(MODULE / "Resources" / name)


class _Test(unittest.TestCase):
    def delayDisplay(self, message: str) -> None: ...


class _Logic:
    def getParameterNode(self) -> Any:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode("CT2PET", "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.SetSingletonTag("CT2PET")
            node.UnRegister(None)
            node = scene.AddNode(node)
        return node


def run_unit_test(path: list[str], testname: str) -> None:
    """Run the tests of a module, as Base/Python/slicer/testing.py of Slicer does; raise an error if one fails."""
    sys.path.extend(path)
    suite = unittest.TestLoader().loadTestsFromName(testname)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful() or not result.testsRun:
        raise RuntimeError(f"{testname}: {result}")


def _of_qt(name: str) -> Any:
    """Return a class of Qt, wherever PySide6 keeps it; it creates them on first use."""
    found = [getattr(of, name) for of in (QtCore, QtGui, QtWidgets) if name.startswith("Q") and hasattr(of, name)]
    if not found:
        raise AttributeError(f"module 'qt' has no attribute {name!r}")
    return found[0]


@contextmanager
def desktop(app: Any) -> Iterator[LayoutManager]:
    """Be the desktop program round an application logic, as long as the context lasts."""
    qt = types.ModuleType("qt")
    vars(qt)["__getattr__"] = _of_qt
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    vars(base).update(
        ScriptedLoadableModule=_Module, ScriptedLoadableModuleWidget=_Widget, ScriptedLoadableModuleLogic=_Logic,
        ScriptedLoadableModuleTest=_Test,
    )  # fmt: skip
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    vars(wrapper).update(vars(parameters))
    testing = types.ModuleType("slicer.testing")
    vars(testing)["runUnitTest"] = run_unit_test
    slicer.testing = testing
    sys.modules.update({"qt": qt, "slicer.ScriptedLoadableModule": base, "slicer.parameterNodeWrapper": wrapper})
    sys.modules["slicer.testing"] = testing
    slicer.util.loadUI = load_ui
    slicer.util.childWidgetVariables = lambda root: types.SimpleNamespace(
        **{
            w.objectName(): w
            for w in root.findChildren(QtWidgets.QWidget)
            if w.objectName() and not w.objectName().startswith("qt_")
        }
    )
    manager = LayoutManager(app)
    slicer.app = types.SimpleNamespace(
        layoutManager=lambda: manager, connect=lambda *_: None, palette=QtWidgets.QApplication.palette
    )
    try:
        yield manager
    finally:
        for view in manager.views.values():  # slice logics that outlive the scene crash the interpreter
            view.logic.SetMRMLScene(None)
        manager.views.clear()
        del slicer.app
