"""Measure memory and `GET /info/` latency of a server while a block of code attacks it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

WATCHER = Path(__file__).with_name("watcher.py")
WATCHER_TIMEOUT_S = 300.0
MAX_INFO_S = 0.5  # slowest response of /info/ under attack
MAX_ABOVE_IDLE_MB = 1500.0  # peak memory above the idle server with loaded models


@dataclass
class Measured:
    """Measurements of a server, complete after the `with` block.

    Attributes:
        idle_mb: Resident memory of the server with its model loaded, before the attacks, MB.
        info: Number, maximum, 99th percentile and median of `/info/` latencies, seconds; failures by kind.
        memory: Peaks in MB: of the server, of its largest child, of all together.
    """

    idle_mb: float
    info: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def above_idle_mb(self) -> float:
        """The peak memory of the server process above idle, MB."""
        return round(self.memory["server_peak_mb"] - self.idle_mb, 1)

    @property
    def total_above_idle_mb(self) -> float:
        """The peak memory of the server and its children together above idle, MB."""
        return round(self.memory["total_peak_mb"] - self.idle_mb, 1)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics for the JSON report."""
        return {
            "info_worst_s": self.info["worst_s"],
            "info_p99_s": self.info["p99_s"],
            "info_requests": self.info["requests"],
            "info_failures": self.info["failures"],
            "peak_beyond_rest_mb": self.above_idle_mb,
            "peak_with_children_beyond_rest_mb": self.total_above_idle_mb,
            "largest_child_mb": self.memory["child_peak_mb"],
        }

    def violations(self, *, latency: bool = True) -> list[str]:
        """Return all exceeded limits, each as a sentence; `latency` includes the latency of `/info/`."""
        found = []
        if self.info["failures"]:
            found.append(f"/info/ failed: {self.info['failures']}")
        if latency and self.info["worst_s"] >= MAX_INFO_S:
            found.append(f"/info/ took {self.info['worst_s']} s, expected below {MAX_INFO_S} s")
        if self.total_above_idle_mb >= MAX_ABOVE_IDLE_MB:
            found.append(
                f"memory {self.total_above_idle_mb:.0f} MB above idle, expected below {MAX_ABOVE_IDLE_MB:.0f} MB"
            )
        return found


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, MB; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


@contextlib.contextmanager
def watched(url: str, pid: int, *, idle_mb: float, token: str = "") -> Iterator[Measured]:
    """Measure a server during the `with` block; reset its peak memory first."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
    parts = urlsplit(url)
    command = [sys.executable, str(WATCHER), str(parts.hostname), str(parts.port), str(pid), token]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    measured = Measured(idle_mb)
    try:
        yield measured
    finally:
        output, _ = watcher.communicate(timeout=WATCHER_TIMEOUT_S)
        result = json.loads(output)
        measured.info, measured.memory = result["info"], result["memory"]
