"""Suite `kills`: kill every writer of the server repeatedly; no partial file may be listed or remain."""

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


def kills_suite(*, notify: Notify, kills: int = KILLS) -> Result:
    """Kill the writers `kills` times and return the violations."""
    result = Result("kills", metrics={"kills": kills})
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, str(kills)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    for line in lines:
        notify(line)
    result.metrics["summary"] = lines[-1] if lines else ""
    if done.returncode != 0:
        result.violations += lines[-LISTED:] or [done.stderr.strip()[-1000:] or f"exit status {done.returncode}"]
    return result
