"""The files under a folder, with what tells that one has changed. Opens none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lib.errors import StudiesError

UNFINISHED = ".part"  # a folder whose name begins with a dot and ends so is being written: nobody looks into it


class FoundFile(NamedTuple):
    """A regular file of a folder: its name there, and the size and time by which a change is seen."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FoundFolder:
    """A folder's own files in name order; `refused` are its entries that are not followed, with the reason."""

    path: str
    files: tuple[FoundFile, ...]
    refused: tuple[tuple[str, str], ...]


def walk(root: Path) -> Iterator[FoundFolder]:
    """Yield each folder under `root`, depth first, in name order.

    No link is followed: what a link inside the root points at is met where it really lies, and what lies outside the
    root is none of ours. Hence loops cannot happen.

    Raises:
        StudiesError: The root is missing, is not a folder, or may not be read.
    """
    if not root.exists():
        raise StudiesError(f"{root}: no such folder; give the folder that holds the DICOM studies")
    if not root.is_dir():
        raise StudiesError(f"{root}: is a file, not a folder; give the folder that holds the DICOM studies")
    real_root = os.path.realpath(root)
    try:
        os.scandir(real_root).close()
    except OSError as error:
        raise StudiesError(f"{root}: cannot be read ({error.strerror}); ask for the right to read it") from error
    pending = [real_root]
    while pending:
        folder, inner = _look(pending.pop(), real_root)
        pending.extend(reversed(inner))
        yield folder


def _look(path: str, real_root: str) -> tuple[FoundFolder, list[str]]:
    files: list[FoundFile] = []
    inner: list[str] = []
    refused: list[tuple[str, str]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    if not _stays_inside(entry.path, real_root):
                        refused.append((entry.path, "a link that leaves the folder; links are not followed"))
                elif entry.is_dir() and entry.name.startswith(".") and entry.name.endswith(UNFINISHED):
                    continue
                elif entry.is_dir():
                    inner.append(entry.path)
                elif entry.is_file():
                    state = entry.stat(follow_symlinks=False)
                    files.append(FoundFile(entry.name, state.st_size, state.st_mtime_ns))
    except OSError as error:  # the folder went away, or is closed to us: say so, read the others
        refused.append((path, f"cannot be listed ({error.strerror})"))
    files.sort(key=lambda file: file.name)
    return FoundFolder(path, tuple(files), tuple(sorted(refused))), sorted(inner)


def _stays_inside(link: str, real_root: str) -> bool:
    target = os.path.realpath(link)
    return target == real_root or target.startswith(real_root.rstrip(os.sep) + os.sep)
