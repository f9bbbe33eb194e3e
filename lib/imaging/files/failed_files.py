"""Record of files that crashed or stalled the process that read them, by checksum, so that they are not read again.

A text file in the cache folder with one line of JSON per file. It may be deleted at any time; files are then read
again, as are changed files, and all files with a new version of the reading libraries.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from lib.files import atomic_file, file_checksum

logger = logging.getLogger(__name__)

FILE_NAME = "unreadable.jsonl"
MAX_BYTES = 2**20  # about 5,000 files; then the older half is dropped
READERS = ("SimpleITK", "nibabel")


@dataclass(frozen=True)
class Failure:
    """A failure; `outcome` is a clause that follows the file name."""

    size: int
    sha256: str
    outcome: str


class FailedFiles:
    """A record file. It never raises: after an error it behaves like an empty record, and files are read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int] | None = None
        self._known: dict[int, dict[str, str]] = {}  # outcome by SHA-256 by size

    def outcome_of(self, path: Path) -> str:
        """Return the outcome of an earlier failure, empty if there is none; files of other sizes are not read."""
        try:
            same_size = self._load().get(path.stat().st_size)
            return "" if same_size is None else same_size.get(file_checksum(path), "")
        except OSError:
            return ""

    def is_empty(self) -> bool:
        """Return whether there are no records."""
        try:
            return not self._load()
        except OSError:
            return True

    def remember(self, path: Path, outcome: str) -> None:
        """Store the failure of a file."""
        try:
            line = {"readers": readers(), **vars(Failure(path.stat().st_size, file_checksum(path), outcome))}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > MAX_BYTES:
                self._drop_older_half()
            with self._path.open("ab") as file:  # a single write is not interleaved with other processes
                file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            logger.warning("%s: cannot be written (%s); unreadable files are tried again", self._path.name, error)

    def _load(self) -> dict[int, dict[str, str]]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._state, self._known = None, {}
            return self._known
        state = (status.st_size, status.st_mtime_ns)
        if state != self._state:
            known: dict[int, dict[str, str]] = {}
            for line in self._path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # an incomplete or foreign line
                    values = json.loads(line)
                    if values["readers"] == readers():
                        known.setdefault(int(values["size"]), {})[str(values["sha256"])] = str(values["outcome"])
            self._state, self._known = state, known
        return self._known

    def _drop_older_half(self) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        with atomic_file(self._path) as temporary:
            temporary.write_bytes(b"".join(lines[len(lines) // 2 :]))


def cache_folder() -> Path:
    """Return the cache folder: $CT2PET_CACHE, else `ct2pet` in the user's cache folder."""
    if os.environ.get("CT2PET_CACHE"):
        return Path(os.environ["CT2PET_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ct2pet"


def failed_files() -> FailedFiles:
    """Return the record shared by all readers."""
    return _at(cache_folder() / FILE_NAME)


@lru_cache(8)
def _at(path: Path) -> FailedFiles:
    return FailedFiles(path)


@lru_cache(1)
def readers() -> str:
    """Return the versions of the reading libraries."""
    return ", ".join(f"{name} {version(name)}" for name in READERS)
