"""The disk space that a DICOM node may use."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

MIN_FREE_BYTES = 2**30  # of the disk: models, logs and the system need it
RECOUNT_INTERVAL_S = 60.0


class DiskQuota:
    """Counts the bytes in folders, from time to time again: an operator may remove series to make room."""

    def __init__(self, folders: Iterable[Path], *, limit_bytes: int) -> None:
        self._folders, self._limit_bytes = tuple(folders), limit_bytes
        self._lock = threading.Lock()
        self._used_bytes, self._counted_at = 0, float("-inf")

    def why_full(self, needed_bytes: int) -> str:
        """Return why a file cannot be kept; empty if it can, and then it counts."""
        with self._lock:
            if self._used_bytes + needed_bytes > self._limit_bytes or self._is_old():
                self._used_bytes, self._counted_at = sum(map(folder_bytes, self._folders)), time.monotonic()
            if self._used_bytes + needed_bytes > self._limit_bytes:
                return f"disk quota of {self._limit_bytes / 1e9:g} GB is used up"
            if shutil.disk_usage(self._folders[0]).free < needed_bytes + MIN_FREE_BYTES:
                return "the disk is almost full"
            self._used_bytes += needed_bytes
        return ""

    def _is_old(self) -> bool:
        return time.monotonic() > self._counted_at + RECOUNT_INTERVAL_S


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # moved or removed meanwhile
                total += os.lstat(Path(place) / name).st_size
    return total
