"""Measure a server while a block of code attacks it: its memory, its answers to `GET /info/`, and that it lives on."""

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
MAX_INFO_S = 0.5  # the worst answer to /info/ under attack
MAX_BEYOND_MB = 1500.0  # the peak of memory beyond the server at rest with its models loaded


@dataclass
class Measured:
    """What was measured; filled in when the watched block ends.

    Attributes:
        rest_mb: Resident memory of the server before all attacks, its model loaded.
        info: Number, worst, 99th percentile and median of the answers to `/info/`, seconds; failures by kind.
        memory: Peaks in MB: of the server, of its largest child, of all together.
    """

    rest_mb: float
    info: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def beyond_mb(self) -> float:
        """Return the peak of the server's own process beyond its rest, MB."""
        return round(self.memory["server_peak_mb"] - self.rest_mb, 1)

    @property
    def total_beyond_mb(self) -> float:
        """Return the peak of the server and its children together beyond the server's rest, MB."""
        return round(self.memory["total_peak_mb"] - self.rest_mb, 1)

    def figures(self) -> dict[str, Any]:
        """Return the numbers of a report."""
        return {
            "info_worst_s": self.info["worst_s"],
            "info_p99_s": self.info["p99_s"],
            "info_requests": self.info["requests"],
            "info_failures": self.info["failures"],
            "peak_beyond_rest_mb": self.beyond_mb,
            "peak_with_children_beyond_rest_mb": self.total_beyond_mb,
            "largest_child_mb": self.memory["child_peak_mb"],
        }

    def violations(self, *, latency: bool = True) -> list[str]:
        """Return which limits were passed, each as a sentence; `latency` judges the seconds, too."""
        found = []
        if self.info["failures"]:
            found.append(f"/info/ failed: {self.info['failures']}")
        if latency and self.info["worst_s"] >= MAX_INFO_S:
            found.append(f"/info/ took {self.info['worst_s']} s, expected below {MAX_INFO_S} s")
        if self.total_beyond_mb >= MAX_BEYOND_MB:
            found.append(f"memory {self.total_beyond_mb:.0f} MB beyond rest, expected below {MAX_BEYOND_MB:.0f} MB")
        return found


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, MB; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


@contextlib.contextmanager
def watched(url: str, pid: int, *, rest_mb: float, token: str = "") -> Iterator[Measured]:
    """Measure inside the `with`; the server's mark of its peak is put back to what it holds now."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
    parts = urlsplit(url)
    command = [sys.executable, str(WATCHER), str(parts.hostname), str(parts.port), str(pid), token]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    measured = Measured(rest_mb)
    try:
        yield measured
    finally:
        output, _ = watcher.communicate(timeout=WATCHER_TIMEOUT_S)
        result = json.loads(output)
        measured.info, measured.memory = result["info"], result["memory"]
