"""Use processors considerately: idle threads sleep soon, containers keep to their share, background work yields.

`configure_threads` is called when `lib` is imported, because libgomp reads the variables when torch is imported.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

# Iterations that an idle OpenMP thread spins before it sleeps. By default it is 30 billion where there are as many
# threads as processors: next to another process each slice then takes ten times as long (docs/decisions/0050).
SPIN_COUNT = 1_000
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # the user's own setting of either is kept
THREAD_VARIABLES = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
BACKGROUND_NICENESS = 5  # at 10 an epoch took 3.1 times as long next to requests without a pause
PR_SET_PDEATHSIG = 1
CGROUP = Path("/sys/fs/cgroup")


def configure_threads(environment: MutableMapping[str, str] | None = None, *, cgroup: Path = CGROUP) -> None:
    """Set environment variables of OpenMP and ITK, except for those that the user has set.

    Args:
        environment: Of this process by default.
        cgroup: Folder of the control group, which limits the processors of a container.
    """
    variables = os.environ if environment is None else environment
    if not any(name in variables for name in SPIN_VARIABLES):
        variables["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    allowed = processor_quota(cgroup)
    if allowed is not None and allowed < _usable_processors():
        for name in THREAD_VARIABLES:
            variables.setdefault(name, str(allowed))


def processor_quota(cgroup: Path = CGROUP) -> int | None:
    """Return the number of processors that the control group allows, rounded up; None without a limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:  # version 1
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such file, or `max`
        return None


def available_processors() -> int:
    """Return the number of processors that this process may use."""
    allowed = processor_quota()
    usable = _usable_processors()
    return usable if allowed is None else min(usable, allowed)


def yield_processors() -> None:
    """Let other processes go first; for background work that has a session of its own.

    Linux distributes processors to sessions first (autogroup), and niceness counts within one only.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):
        os.nice(BACKGROUND_NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(BACKGROUND_NICENESS))


def end_with_parent(parent: int, *, by: signal.Signals = signal.SIGKILL) -> None:
    """End this process when its parent ends, and leave Ctrl-C to the parent; the former on Linux only.

    Args:
        parent: Process ID of the parent, which may have ended already.
        by: The signal that ends this process; a program that has to clean up needs SIGTERM.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by))
        if os.getppid() != parent:
            os._exit(1)


def _usable_processors() -> int:
    """Return the number of processors that the system lets this process use, without the limit of a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows
