"""Stand-in for Slicer's launcher: runs `--python-code` with the core libraries and doubles of the desktop program."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "inside"))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def main() -> int:
    """Run the code, and return an exit code."""
    from conftest import application_logic
    from desktop.program import desktop
    from PySide6.QtWidgets import QApplication

    QApplication(["Slicer"])
    code = sys.argv[sys.argv.index("--python-code") + 1]
    with application_logic() as app, desktop(app):
        try:
            exec(compile(code, "--python-code", "exec"), {})  # as Slicer does
        except Exception:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # objects of the core libraries are freed in an order that can crash the interpreter
