"""A folder of the server's own for all temporary files, whoever makes them: uploads, unpacked archives.

A server that is killed cannot remove its files. The next one does: a folder whose lock nobody holds has no owner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

LOCK = "in-use"
# of the models folder: being written, or waiting to be sent
LEFTOVERS = (
    "shelf/.*", "converted/.*", "results/*", "tasks/.*", ".accounts.key.*", ".split.csv.new",
    ".split.csv.lock-journal", "*/.model.safetensors.*", "*/versions/.new-*", "*/versions/*/.*", "*/runs/*/.*",
    "prepared/*/.*", "prepared/*/pairs/.*",
)  # fmt: skip
STALE_AFTER_S = 3600.0  # where another server shares the folder: none writes at a file that long


class TemporaryFolder:
    """The folder, from when it is made until the process ends; the files of servers that are gone are removed."""

    def __init__(self, parent: Path) -> None:
        """Make the folder under `parent` and the processes' default; nothing of a living server is touched."""
        parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix="server-", dir=parent))  # mode 0700
        self._lock = _locked(self.path)  # kept open as long as the process lives
        for left in parent.iterdir():
            if left != self.path:
                remove_if_abandoned(left)
        self.is_alone = list(parent.iterdir()) == [self.path]  # no other server uses the models folder
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.path)  # of this process and those that it starts

    def close(self) -> None:
        """Remove the folder, at an orderly end."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_if_abandoned(folder: Path) -> None:
    """Remove a temporary folder unless its owner lives."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    try:
        lock = _locked(folder)
    except OSError:  # its owner holds it
        return
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()


def remove_leftovers(models_folder: Path, *, is_alone: bool = False) -> None:
    """Remove half-written files, and results that nobody fetched, of servers that are gone.

    Args:
        models_folder: Where the server writes.
        is_alone: No other server uses the folder; else only what is old is removed.
    """
    for pattern in LEFTOVERS:
        for left in models_folder.glob(pattern):
            with contextlib.suppress(OSError):  # somebody else removes it, too
                if is_alone or left.stat().st_mtime < time.time() - STALE_AFTER_S:
                    if left.is_dir() and not left.is_symlink():
                        shutil.rmtree(left, ignore_errors=True)
                    else:
                        left.unlink()


def _locked(folder: Path) -> BinaryIO:
    file = (folder / LOCK).open("wb")
    with contextlib.ExitStack() as undo:
        undo.callback(file.close)
        with contextlib.suppress(ImportError):  # Windows does not let an open file be removed: a lock by itself
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        undo.pop_all()
    return file
