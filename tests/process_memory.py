"""Peak memory of a process."""

from __future__ import annotations

from pathlib import Path


def peak_kib(pid: int | str = "self") -> int:
    """Return the peak resident memory of a process, KiB; unlike ru_maxrss, never that of its parent process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])
