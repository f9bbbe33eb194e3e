"""One training at a time in the folder of a run, on whatever machine.

The first process of a training holds a lock on the file `run.lock` in the folder; the system releases it when the
process ends, however it ends. On a shared folder the lock holds between machines, if the file system has locks (NFS 4
has); after a machine has lost its power, a file server keeps its locks for a while, about 90 seconds with NFS 4.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ignite.distributed as idist
from filelock import FileLock, Timeout

from lib.errors import TrainingError
from lib.learning.distributed import from_first

logger = logging.getLogger(__name__)

LOCK_FILE = "run.lock"
RESTART_TIMEOUT_S = 180.0  # twice the lease of an NFS server, 90 s
IN_USE = "run_in_use"


@contextmanager
def hold_run(run: Path, *, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the lock of a run, which is the first process's; the folder is created.

    Args:
        run: Folder of the run.
        timeout_s: How long to wait for the lock, -1 for as long as it takes. By default, a single process does not
            wait. One of several may have been restarted in place of a lost machine's, and waits until that machine's
            lock has expired.

    Raises:
        TrainingError: Another training uses the folder.
        OSError: The folder cannot be written.
    """
    if timeout_s is None:
        timeout_s = RESTART_TIMEOUT_S if idist.get_world_size() > 1 else 0
    lock = FileLock(run / LOCK_FILE, timeout=timeout_s)

    def acquire() -> None:
        """Acquire the lock, in the first process only."""
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise TrainingError(
                f"{run} is used by another training; wait until it ends, or choose another folder",
                code="run_in_use",
            ) from error

    is_new = not run.exists()
    from_first(acquire)
    try:
        yield
    finally:
        lock.release()
        if is_new and [path.name for path in run.glob("*")] == [LOCK_FILE]:  # refused before anything was written
            shutil.rmtree(run, ignore_errors=True)


def is_in_use(run: Path) -> bool:
    """Return whether a training, on this or another machine, uses the folder of a run."""
    if not (run / LOCK_FILE).is_file():
        return False
    try:
        with FileLock(run / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
