"""Context shared by the sections of the panel: widgets, scene, parameters, server, jobs, and the message line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.client.schemas import Server
from CT2PETLib.i18n import _
from CT2PETLib.jobs.runner import JobRunner
from CT2PETLib.panel.qt_helpers import text_style
from CT2PETLib.scene.volume import SceneError


class Panel:
    """The shared context.

    Attributes:
        ui: Widgets by name.
        scene: The MRML scene.
        parameters: The panel's parameters; None while a scene is closed.
        client, server: Client and description of the connected server; None without a connection.
        runner: The active jobs.
        refresh: Updates every section; called whenever something has changed.
        max_wall_s: Longest duration of each handler, during which the window was blocked.
        max_cpu_s: Most CPU time of each handler.
    """

    def __init__(self, ui: Any, scene: Any) -> None:
        self.ui = ui
        self.scene = scene
        self.parameters: Any = None
        self.client: Client | None = None
        self.server: Server | None = None
        self.runner = JobRunner(self.show_error)
        self.refresh: Callable[[], None] = lambda: None
        self.max_wall_s: dict[str, float] = {}
        self.max_cpu_s: dict[str, float] = {}

    def on_signal(self, widget: Any, signal: str, handler: Callable[[], None]) -> None:
        """Connect a handler to a signal of a widget; errors are shown in the panel, never in a dialog."""
        getattr(widget, signal).connect(lambda *_: self.guard(handler))

    def guard(self, handler: Callable[[], None]) -> None:
        """Call a handler, and show its error, if any, as a message in the panel."""
        wall_start, cpu_start = time.perf_counter(), time.thread_time()
        try:
            handler()
        except (SceneError, ServerError) as error:
            self.show_error(str(error))
        except Exception:
            logging.getLogger("CT2PET").exception("in a handler of the panel")
            self.show_error(_("Internal error of the CT2PET module; see Slicer's log (Ctrl+0) for details."))
        name = getattr(handler, "__qualname__", repr(handler))
        self.max_wall_s[name] = max(self.max_wall_s.get(name, 0.0), time.perf_counter() - wall_start)
        self.max_cpu_s[name] = max(self.max_cpu_s.get(name, 0.0), time.thread_time() - cpu_start)

    def show_message(self, message: str) -> None:
        """Show a message; an empty one hides the message line."""
        self._write(message, is_error=False)

    def show_error(self, message: str) -> None:
        """Show an error message."""
        self._write(message, is_error=True)
        self.refresh()

    def _write(self, message: str, *, is_error: bool) -> None:
        self.ui.messageLabel.setStyleSheet(text_style(is_error=is_error))
        self.ui.messageLabel.setText(message)
        self.ui.messageLabel.setVisible(bool(message))

    def require_client(self) -> Client:
        """Return the client of the connected server.

        Raises:
            ServerError: There is no connection.
        """
        if self.client is None:
            raise ServerError(_("Not connected: enter the server address, then press Test connection."))
        return self.client
