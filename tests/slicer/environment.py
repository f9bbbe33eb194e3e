"""Where Python has the core libraries of 3D Slicer."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import REPOSITORY, missing

VARIABLE = "CT2PET_SLICER_PYTHON"


def slicer_python() -> str:
    """Return that Python, or skip the test; fail where CT2PET_REQUIRE names `slicer`."""
    named = os.environ.get(VARIABLE, "")
    python = Path(named) if named else REPOSITORY / ".venv-slicer" / "bin" / "python"
    if not python.is_file():
        missing("slicer", f"there is no {python}; make it with scripts/slicer-environment, or name one in {VARIABLE}")
    return str(python)
