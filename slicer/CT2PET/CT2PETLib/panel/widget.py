"""The panel: loads CT2PET.ui, connects its sections, and polls the jobs."""

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
from CT2PETLib.panel.qt_helpers import get_property
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
        self.display = DisplaySection(panel)
        self.synthesise = SynthesiseSection(panel, self.ct, self.display.show_new)
        self.server = ServerSection(panel, self._on_connected)
        self.compare = CompareSection(panel, self.ct, self.synthesise, self.display)
        self.export = ExportSection(panel, self.ct, self.synthesise)
        self.train = TrainSection(panel, self.synthesise, self._reload_server)
        panel.refresh = self.refresh
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._on_scene_closing)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._on_scene_closed)
        self._open_parameters()
        self.timer = qt.QTimer()
        self.timer.setInterval(TICK_MS)
        panel.on_signal(self.timer, "timeout", self.tick)
        self.timer.start()

    def cleanup(self) -> None:
        """Cancel all jobs, as the module is closed or reloaded."""
        self.timer.stop()
        self.panel.runner.cancel_all()
        self._close_parameters()
        self.removeObservers()

    def enter(self) -> None:
        """Called when the user opens the module."""
        if self.panel.parameters is None:
            self._open_parameters()

    def exit(self) -> None:
        """Called when the user leaves the module: jobs continue, and views keep their annotation."""

    def tick(self) -> None:
        """Dispatch the events of jobs, and follow the displayed slice."""
        self.panel.runner.tick()
        self.synthesise.tick()
        self.display.tick()

    def refresh(self) -> None:
        """Update every section."""
        if self.panel.parameters is None:
            return
        sections = (self.server, self.ct, self.synthesise, self.display, self.compare, self.export, self.train)
        for section in sections:
            section.refresh()

    def _on_connected(self) -> None:
        self.ct.list_studies()
        self.synthesise.connected()
        self.train.connected()
        self.refresh()

    def _reload_server(self) -> None:
        """Reload the server's description, as a version or a model may have changed."""
        client = self.panel.client
        if client is not None:
            self.panel.runner.submit(client, lambda job_client: job_client.server(), self._on_server)
            self.train.list_versions()

    def _on_server(self, server: Any) -> None:
        self.panel.server = server
        self.synthesise.connected()
        self.refresh()

    def _open_parameters(self) -> None:
        self.panel.parameters = parameters = self.logic.getParameterNode()
        self.display.restore()
        self._gui_tag = parameters.connectParametersToGui(parameter_widgets(self.ui))
        self.addObserver(self.panel.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
        self.refresh()

    def _close_parameters(self) -> None:
        if self.panel.parameters is not None:
            self.panel.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self.panel.parameters, vtk.vtkCommand.ModifiedEvent, self._on_modified)
            self.panel.parameters = None

    def _on_modified(self, _caller: Any = None, _event: Any = None) -> None:
        self.panel.guard(self.refresh)

    def _on_scene_closing(self, _caller: Any, _event: Any) -> None:
        self.panel.runner.cancel_all()
        self._close_parameters()

    def _on_scene_closed(self, _caller: Any, _event: Any) -> None:
        self._open_parameters()


def parameter_widgets(ui: Any) -> dict[str, Any]:
    """Return the widgets that show a parameter, by the parameter's name.

    `connectGui` finds them as well, but returns no tag to disconnect them by before Slicer 5.10.
    """
    named = ((get_property(widget, "SlicerParameterName"), widget) for widget in vars(ui).values())
    return {name: widget for name, widget in named if name}
