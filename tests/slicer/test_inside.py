"""Run each test file of inside/ in a separate process with the core libraries of 3D Slicer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.slicer.environment import slicer_python

INSIDE = Path(__file__).parent / "inside"
# `slicer` objects are freed in an order that can end the interpreter in a crash, after everything has been tested
PROGRAM = "import os, sys, pytest; code = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(code)"


@pytest.mark.parametrize("file", sorted(INSIDE.glob("test_*.py")), ids=lambda file: file.stem)
def test_inside_slicer(file: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
    command = [
        slicer_python(),
        "-c",
        PROGRAM,
        "-c",
        str(INSIDE / "pytest.ini"),
        "-q",
        "--basetemp",
        str(tmp_path / "t"),
        str(file),
    ]
    done = subprocess.run(
        command, cwd=INSIDE, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
