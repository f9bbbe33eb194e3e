"""Where Python has the core libraries of 3D Slicer, and whether the review page can be shown."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.review_page.browser import find_chromium
from tests.conftest import REPOSITORY, missing

VARIABLE = "CT2PET_SLICER_PYTHON"


def slicer_python() -> str:
    """Return that Python, or skip the test; fail where CT2PET_REQUIRE names `slicer`."""
    named = os.environ.get(VARIABLE, "")
    python = Path(named) if named else REPOSITORY / ".venv-slicer" / "bin" / "python"
    if not python.is_file():
        missing("slicer", f"there is no {python}; make it with scripts/slicer-environment, or name one in {VARIABLE}")
    return str(python)


def review_script() -> str:
    """Return scripts/review where it can run and Chromium can show its page, or skip the test.

    It fails instead where CT2PET_REQUIRE names `review`.
    """
    if not (REPOSITORY / ".venv-review" / "installed").is_file():
        missing("review", "there is no .venv-review; make it with scripts/review-environment")
    if not find_chromium():
        missing("review", "there is no Chromium to show the page (Debian: chromium)")
    return str(REPOSITORY / "scripts" / "review")
