"""One folder for all temporary files of a server: uploads, unpacked archives.

A killed server cannot remove its files. The next one removes every folder whose lock is free.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from lib.files import TEMPORARY, remove_abandoned

LOCK = "in-use"
# unfinished files and folders in the models folder; the last two lines are of earlier versions
UNFINISHED = (
    f"{TEMPORARY}.*", f"*/{TEMPORARY}.*", "shelf/.*", "*/versions/.*", "*/versions/*/.*", "*/runs/*/.*",
    "prepared/*/.*", "prepared/*/pairs/.*",
    ".accounts.key.*", ".split.csv.new", ".split.csv.lock-journal", "*/.model.safetensors.*", "converted/.*",
    "tasks/.*",
)  # fmt: skip
RESULT_STALE_AFTER_S = 3600.0  # another server that shares the folder has sent its results by then


class TemporaryFolder:
    """The temporary folder of this process; creating it removes the folders of servers that have ended."""

    def __init__(self, parent: Path) -> None:
        """Create the folder under `parent`.

        Raises:
            OSError: The folder cannot be written, or its file system has no locks.
        """
        parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="server-", dir=parent))  # mode 0700
        self._lock = FileLock(self.path / LOCK, thread_local=False)  # held as long as the process runs
        self._lock.acquire(blocking=False)
        for other in parent.iterdir():
            if other != self.path:
                remove_if_abandoned(other)
        self.is_alone = list(parent.iterdir()) == [self.path]  # no other server uses the models folder

    def use_as_default(self) -> None:
        """Make it the default temporary folder of this process and of the processes that it starts."""
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.path)

    def close(self) -> None:
        """Remove the folder when the process exits normally."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def remove_if_abandoned(folder: Path) -> None:
    """Remove a temporary folder unless its owner is running."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError), FileLock(folder / LOCK, blocking=False):  # Timeout: its owner holds it
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(models_folder: Path, *, is_alone: bool = False) -> None:
    """Remove unfinished files, and results that were not fetched, of servers that have ended.

    Args:
        models_folder: Where the server writes.
        is_alone: No other server uses the folder; otherwise only old results are removed.
    """
    for pattern in UNFINISHED:
        remove_abandoned(models_folder.glob(pattern))
    for result in models_folder.glob("results/*"):
        with contextlib.suppress(OSError):  # another server may remove it at the same time
            if is_alone or result.stat().st_mtime < time.time() - RESULT_STALE_AFTER_S:
                result.unlink()
