"""`app-folder`: where the app for MONAI Label is installed."""

from __future__ import annotations

from pathlib import Path

import lib
from lib.cli.console import print_line

APP_FOLDER = Path(lib.__file__).resolve().parents[1] / "ct2pet_app"


def app_folder() -> None:
    """Print the folder of the MONAI Label app, for `monailabel start_server --app`."""
    print_line(str(APP_FOLDER))
