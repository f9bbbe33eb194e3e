"""Files and folders that are being written: hidden, locked by their process, and recognised when that was killed.

The lock (flock) ends with the process, so what is hidden and not locked has no owner and may be removed at once. Where
a system or file system has no such locks, age decides.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

STALE_AFTER_S = 3600.0  # where locks are not available
MAX_ATTEMPTS = 10  # to create one that is not removed before it is locked


@contextlib.contextmanager
def unfinished_file(folder: Path, suffix: str, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a new, empty, hidden and locked file; remove it at the end unless it was moved away.

    Args:
        folder: Where to create it.
        suffix: The end of its name, which begins with a dot.
        mode: Its permissions, under the umask.

    Raises:
        OSError: It cannot be created.
    """
    with _locked(folder, suffix, mode=mode) as path:
        yield path


@contextlib.contextmanager
def unfinished_folder(folder: Path, suffix: str) -> Iterator[Path]:
    """Yield a new, empty, hidden and locked folder; remove it at the end unless it was moved away.

    Args:
        folder: Where to create it.
        suffix: The end of its name, which begins with a dot.

    Raises:
        OSError: It cannot be created.
    """
    with _locked(folder, suffix, mode=None) as path:
        yield path


def remove_abandoned(paths: Iterable[Path]) -> int:
    """Remove those files and folders that no living process is writing; return how many."""
    removed = 0
    for path in paths:
        with contextlib.suppress(OSError):  # another process removes it, too
            if is_abandoned(path):
                _remove(path)
                removed += 1
    return removed


def is_abandoned(path: Path) -> bool:
    """Return whether no living process writes a hidden file or folder.

    Raises:
        OSError: It is gone, or cannot be opened.
    """
    if path.is_symlink():
        return False
    descriptor = _opened(path)
    if descriptor is None:
        return path.stat().st_mtime < time.time() - STALE_AFTER_S
    try:
        is_locked = _lock(descriptor)
        return os.fstat(descriptor).st_mtime < time.time() - STALE_AFTER_S if is_locked is None else is_locked
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    """Return a descriptor of a file or folder that can be locked; None on Windows, which has no such locks."""
    return None if os.name == "nt" else os.open(path, os.O_RDONLY)


def _lock(descriptor: int) -> bool | None:
    """Return whether this process holds the lock now; None on a file system without locks."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def _locked(folder: Path, suffix: str, *, mode: int | None) -> Iterator[Path]:
    path, descriptor = _create(folder, suffix, mode=mode)
    try:
        yield path
    finally:
        _remove(path)
        if descriptor is not None:
            os.close(descriptor)


def _create(folder: Path, suffix: str, *, mode: int | None) -> tuple[Path, int | None]:
    """Return a new file, or folder where there is no mode, and the descriptor that holds its lock, where it has one."""
    for _ in range(MAX_ATTEMPTS):
        path = folder / f".{uuid.uuid4().hex}{suffix}"
        if mode is None:
            path.mkdir()
        else:
            path.touch(mode, exist_ok=False)
        try:
            descriptor = _opened(path)
        except FileNotFoundError:  # removed as abandoned, before it was locked
            continue
        if descriptor is None or (_lock(descriptor) is not False and path.exists()):
            return path, descriptor
        os.close(descriptor)
    raise OSError(f"{folder.name}: what is begun there is removed by another process")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
