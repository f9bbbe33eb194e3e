"""The composition root, which MONAI Label loads: ``monailabel start_server --app ct2pet_app --studies STUDIES``.

MONAI Label runs this file as a module that never enters ``sys.modules``, and builds the first class of it that has
`MONAILabelApp` among its direct bases: once in the server, and again in the process of every task.
"""

from __future__ import annotations

import sys
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, wherever the server is started

import ct2pet_app.app
from ct2pet_app.api.application import install


class CT2PETServerApp(ct2pet_app.app.CT2PETApp, MONAILabelApp):
    """The app together with its routes, which are installed where this process is the server."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None = None) -> None:
        super().__init__(app_dir, studies, conf)
        install(self)
