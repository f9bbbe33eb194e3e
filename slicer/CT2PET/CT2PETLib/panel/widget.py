"""The panel: loads CT2PET.ui, joins its sections, and beats the time of the jobs."""

from __future__ import annotations

from typing import Any

import qt
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

import slicer
from CT2PETLib.logic import CT2PETLogic
from CT2PETLib.panel.compare import CompareSection
from CT2PETLib.panel.context import Panel
from CT2PETLib.panel.ct import CTSection
from CT2PETLib.panel.display import DisplaySection
from CT2PETLib.panel.export import ExportSection
from CT2PETLib.panel.server import ServerSection
from CT2PETLib.panel.synthesise import SynthesiseSection
from CT2PETLib.panel.train import TrainSection

TICK_MS = 100


class CT2PETWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel. Names in camel case are Slicer's."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.panel: Any = None
        self._gui_tag: Any = None

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        ui_widget = slicer.util.loadUI(self.resourcePath("UI/CT2PET.ui"))
        self.layout.addWidget(ui_widget)
        self.ui = slicer.util.childWidgetVariables(ui_widget)
        ui_widget.setMRMLScene(slicer.mrmlScene)
        self.logic = CT2PETLogic()
        self.panel = panel = Panel(self.ui, slicer.mrmlScene)
        self.ct = CTSection(panel)
        self.show = DisplaySection(panel)
        self.synthesise = SynthesiseSection(panel, self.ct, self.show.came)
        self.server = ServerSection(panel, self._connected)
        self.compare = CompareSection(panel, self.ct, self.synthesise, self.show)
        self.give_back = ExportSection(panel, self.ct, self.synthesise)
        self.train = TrainSection(panel, self.synthesise, self._look_again)
        panel.refresh = self.refresh
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._closing)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._closed)
        self._open_parameters()
        self.timer = qt.QTimer()
        self.timer.setInterval(TICK_MS)
        panel.when(self.timer, "timeout", self.tick)
        self.timer.start()

    def cleanup(self) -> None:
        """End every job: the module is closed, or loaded again."""
        self.timer.stop()
        self.panel.running.cancel_all()
        self._close_parameters()
        self.removeObservers()

    def enter(self) -> None:
        """The user has turned to the module."""
        if self.panel.parameters is None:
            self._open_parameters()

    def exit(self) -> None:
        """The user has turned to another module: jobs go on, and the words stay in the views."""

    def tick(self) -> None:
        """Tell of what jobs have done, and follow the slice on screen."""
        self.panel.running.tick()
        self.synthesise.tick()
        self.show.tick()

    def refresh(self) -> None:
        """Bring every section up to date."""
        if self.panel.parameters is None:
            return
        sections = (self.server, self.ct, self.synthesise, self.show, self.compare, self.give_back, self.train)
        for section in sections:
            section.refresh()

    def _connected(self) -> None:
        self.ct.list_studies()
        self.synthesise.connected()
        self.train.connected()
        self.refresh()

    def _look_again(self) -> None:
        """Ask the server anew: another version may be served, or another model be trained."""
        client = self.panel.client
        if client is not None:
            self.panel.running.ask(client, lambda asker: asker.server(), self._told)
            self.train.list_versions()

    def _told(self, server: Any) -> None:
        self.panel.server = server
        self.synthesise.connected()
        self.refresh()

    def _open_parameters(self) -> None:
        self.panel.parameters = self.logic.getParameterNode()
        self._gui_tag = self.panel.parameters.connectGui(self.ui)
        self.addObserver(self.panel.parameters, vtk.vtkCommand.ModifiedEvent, self._modified)
        self.refresh()

    def _close_parameters(self) -> None:
        if self.panel.parameters is not None:
            self.panel.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self.panel.parameters, vtk.vtkCommand.ModifiedEvent, self._modified)
            self.panel.parameters = None

    def _modified(self, _caller: Any = None, _event: Any = None) -> None:
        self.panel.guard(self.refresh)

    def _closing(self, _caller: Any, _event: Any) -> None:
        self.panel.running.cancel_all()
        self._close_parameters()

    def _closed(self, _caller: Any, _event: Any) -> None:
        self._open_parameters()
