"""The module's panel in the stub of the desktop application."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@contextmanager
def opened(app: Any, settings: Path) -> Iterator[Any]:
    """Open the panel; its settings are saved in the folder `settings`."""
    from desktop.program import desktop
    from PySide6.QtCore import QCoreApplication, QSettings
    from PySide6.QtWidgets import QApplication

    application = QApplication.instance() or QApplication(["slicer"])
    QCoreApplication.setOrganizationName("ct2pet")
    QCoreApplication.setApplicationName("test")
    QSettings.setPath(QSettings.Format.NativeFormat, QSettings.Scope.UserScope, str(settings))
    QSettings.setDefaultFormat(QSettings.Format.NativeFormat)
    with desktop(app):
        from CT2PETLib.panel.widget import CT2PETWidget

        widget = CT2PETWidget()
        widget.setup()
        widget.timer.stop()  # the test calls `tick` itself
        try:
            yield widget
        finally:
            widget.cleanup()
            application.processEvents()
