"""Listing of the files under a folder, with size and modification time, without opening them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lib.errors import StudiesError

UNFINISHED = ".part"  # suffix of hidden folders that are being written, which are skipped


class FoundFile(NamedTuple):
    """A regular file of a folder: its name, and the size and modification time that reveal a change."""

    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class FoundFolder:
    """The files of a folder, sorted by name; `refused` lists entries that are skipped, with the reason."""

    path: str
    files: tuple[FoundFile, ...]
    refused: tuple[tuple[str, str], ...]


def walk(root: Path) -> Iterator[FoundFolder]:
    """Yield each folder under `root`, depth first, sorted by name.

    Symbolic links are not followed: a target inside the root is found at its real path, and a target outside the root
    is not part of it. Hence there are no loops.

    Raises:
        StudiesError: The root is missing, is not a folder, or cannot be read.
    """
    if not root.exists():
        raise StudiesError(f"{root}: no such folder; give the folder that holds the DICOM studies")
    if not root.is_dir():
        raise StudiesError(f"{root}: is a file, not a folder; give the folder that holds the DICOM studies")
    real_root = os.path.realpath(root)
    try:
        os.scandir(real_root).close()
    except OSError as error:
        raise StudiesError(f"{root}: cannot be read ({error.strerror}); obtain read permission") from error
    pending = [real_root]
    while pending:
        folder, subfolders = _list_folder(pending.pop(), real_root)
        pending.extend(reversed(subfolders))
        yield folder


def _list_folder(path: str, real_root: str) -> tuple[FoundFolder, list[str]]:
    files: list[FoundFile] = []
    subfolders: list[str] = []
    refused: list[tuple[str, str]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    state = entry.stat(follow_symlinks=False)
                    files.append(FoundFile(entry.name, state.st_size, state.st_mtime_ns))
                elif entry.is_symlink():
                    if not _is_inside(entry.path, real_root):
                        refused.append((entry.path, "a link to a target outside the folder; links are not followed"))
                elif entry.is_dir() and not (entry.name.startswith(".") and entry.name.endswith(UNFINISHED)):
                    subfolders.append(entry.path)
    except OSError as error:  # removed or not readable: report it and continue with the others
        refused.append((path, f"cannot be listed ({error.strerror})"))
    files.sort()
    return FoundFolder(path, tuple(files), tuple(sorted(refused))), sorted(subfolders)


def _is_inside(link: str, real_root: str) -> bool:
    target = os.path.realpath(link)
    return target == real_root or target.startswith(real_root.rstrip(os.sep) + os.sep)
