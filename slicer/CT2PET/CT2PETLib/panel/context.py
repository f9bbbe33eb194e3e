"""What the sections of the panel share: widgets, scene, choices, server, jobs, and the line that speaks to the user."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from CT2PETLib.client.client import Client
from CT2PETLib.client.errors import ServerError
from CT2PETLib.client.schemas import Server
from CT2PETLib.jobs.runner import JobRunner
from CT2PETLib.scene.volume import SceneError

WRONG = "color: #b3261e;"
RIGHT = ""


class Panel:
    """The panel, as its sections see it.

    Attributes:
        ui: Its widgets by name.
        scene: The scene of MRML.
        parameters: What the user has chosen; None while a scene is closed.
        client, server: The server in use, and what it says of itself; None before there is one.
        running: Jobs under way.
        refresh: Called whenever something has changed; brings every section up to date.
        slowest_s: The longest that each handler took, while the window stood still.
        busiest_s: The most of a processor that each handler used; the rest of the time it waited, or others ran.
    """

    def __init__(self, ui: Any, scene: Any) -> None:
        self.ui = ui
        self.scene = scene
        self.parameters: Any = None
        self.client: Client | None = None
        self.server: Server | None = None
        self.running = JobRunner(self.show_error)
        self.refresh: Callable[[], None] = lambda: None
        self.max_wall_s: dict[str, float] = {}
        self.max_cpu_s: dict[str, float] = {}

    def when(self, widget: Any, signal: str, handler: Callable[[], None]) -> None:
        """Call `handler` at a signal of a widget; what goes wrong in it is told in the panel, never in a box."""
        getattr(widget, signal).connect(lambda *_: self.guard(handler))

    def guard(self, handler: Callable[[], None]) -> None:
        """Call a handler; what goes wrong in it becomes a sentence in the panel."""
        began, began_busy = time.perf_counter(), time.thread_time()
        try:
            handler()
        except (SceneError, ServerError) as error:
            self.show_error(str(error))
        except Exception:
            logging.getLogger("CT2PET").exception("in a handler of the panel")
            self.show_error("An error in the CT2PET module itself; Slicer's log (Ctrl+0) says which.")
        name = getattr(handler, "__qualname__", repr(handler))
        self.max_wall_s[name] = max(self.max_wall_s.get(name, 0.0), time.perf_counter() - began)
        self.max_cpu_s[name] = max(self.max_cpu_s.get(name, 0.0), time.thread_time() - began_busy)

    def say(self, sentence: str) -> None:
        """Tell the user something."""
        self._write(sentence, RIGHT)

    def show_error(self, sentence: str) -> None:
        """Tell the user that something went wrong, and what to do."""
        self._write(sentence, WRONG)
        self.refresh()

    def _write(self, sentence: str, style: str) -> None:
        self.ui.messageLabel.setStyleSheet(style)
        self.ui.messageLabel.setText(sentence)
        self.ui.messageLabel.setVisible(bool(sentence))

    def require_client(self) -> Client:
        """Return the server's client.

        Raises:
            ServerError: There is none.
        """
        if self.client is None:
            raise ServerError("Not connected: give the server's address, then press Test connection.")
        return self.client
