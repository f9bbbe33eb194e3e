"""Suite `kills`: every writer of the server is killed again and again; nothing torn is listed, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.attacking.cases import Notify
from scripts.attacking.result import Result

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "tests.ct2pet_app.kill_writers"
KILLS = 200
LISTED = 20


def kills_suite(*, said: Notify, kills: int = KILLS) -> Result:
    """Return what is found after so many kills."""
    result = Result("kills", figures={"kills": kills})
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, str(kills)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    for line in lines:
        said(line)
    result.figures["summary"] = lines[-1] if lines else ""
    if done.returncode != 0:
        result.violations += lines[-LISTED:] or [done.stderr.strip()[-1000:] or f"exit status {done.returncode}"]
    return result
