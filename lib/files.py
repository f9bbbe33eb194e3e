"""Atomic writes of files and folders, and fingerprints that detect changed files.

A file or folder is first written under a temporary name, `.<32 hexadecimal digits><suffix>`, in its destination folder.
The process that writes it holds a lock on it, which the system releases when the process ends. A temporary file without
a lock was abandoned by a killed process and can be removed at once. On a file system without locks, its age decides.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

STALE_AFTER_S = 3600.0  # on file systems without locks
MAX_ATTEMPTS = 10  # to create a temporary file that no other process removes before it is locked
TEMPORARY = f".{'[0-9a-f]' * 32}"  # pattern of how the names of temporary files begin


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield an empty temporary file that replaces `path` at the end; after an exception `path` is unchanged.

    The temporary name ends with the name of `path`. Temporary files of `path` that killed processes abandoned are
    removed.

    Args:
        path: The file to write.
        mode: Its permissions, under the umask.

    Raises:
        OSError: The file cannot be created or replaced.
    """
    remove_abandoned(path.parent.glob(f"{TEMPORARY}.{glob.escape(path.name)}"))
    with unfinished_file(path.parent, f".{path.name}", mode=mode) as temporary:
        yield temporary
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file that holds either the old or the new text, even after a crash or a power cut.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        flush_to_disk(temporary)


def flush_to_disk(path: Path) -> None:
    """Flush the content of a file, or the list of files in a folder, to the disk.

    Raises:
        OSError: The disk is full or fails.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unfinished_file(folder: Path, suffix: str, *, mode: int = 0o666) -> Iterator[Path]:
    """Yield a new, empty, locked temporary file; remove it at the end unless it was moved.

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
    """Yield a new, empty, locked temporary folder; remove it at the end unless it was moved.

    Args:
        folder: Where to create it.
        suffix: The end of its name, which begins with a dot.

    Raises:
        OSError: It cannot be created.
    """
    with _locked(folder, suffix, mode=None) as path:
        yield path


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove the temporary files and folders that no running process is writing."""
    for path in paths:
        with contextlib.suppress(OSError):  # another process removes it, too
            if _is_abandoned(path):
                _remove(path)


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def states_digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 over name, size and modification time of each file; no file is opened.

    Raises:
        OSError: A file is missing; the attribute `filename` has its path.
    """
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(os.fsencode(path.name) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def fingerprint(files: Iterable[Path]) -> str:
    """Return `names:states`, two digests of the names of files and of their sizes and times.

    `states` is empty if a file is missing, as files of a PACS may be. They are named by their SOPInstanceUIDs, which
    identify their content.
    """
    paths = tuple(files)
    names = hashlib.sha256(b"".join(os.fsencode(path.name) + b"\n" for path in paths)).hexdigest()
    try:
        states = states_digest(paths)
    except FileNotFoundError:
        states = ""
    return f"{names[:16]}:{states[:16]}"


def same_fingerprint(first: str, second: str) -> bool:
    """Return whether two fingerprints are of the same files; states are compared if both have them."""
    first_names, _, first_states = first.partition(":")
    second_names, _, second_states = second.partition(":")
    return first_names == second_names and (not first_states or not second_states or first_states == second_states)


def _is_abandoned(path: Path) -> bool:
    if path.is_symlink():
        return False
    is_stale = path.stat().st_mtime < time.time() - STALE_AFTER_S
    descriptor = _opened(path)
    if descriptor is None:
        return is_stale
    try:
        is_locked = _lock(descriptor)
        return is_stale if is_locked is None else is_locked
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    """Return a descriptor that can be locked; None on Windows, where a locked file cannot be moved."""
    return None if os.name == "nt" else os.open(path, os.O_RDONLY)


def _lock(descriptor: int) -> bool | None:
    """Return whether this process holds the lock now; None on a file system without locks."""
    from filelock import lock_descriptor  # takes a while to import, and most processes write nothing

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None


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
    """Return a new file, or a folder if there is no mode, and the descriptor that holds its lock, if it has one."""
    for _ in range(MAX_ATTEMPTS):
        path = folder / f".{uuid.uuid4().hex}{suffix}"
        if mode is None:
            path.mkdir()
        else:
            path.touch(mode, exist_ok=False)
        try:
            descriptor = _opened(path)
        except FileNotFoundError:  # removed as abandoned before it was locked
            continue
        if descriptor is None or (_lock(descriptor) is not False and path.exists()):
            return path, descriptor
        os.close(descriptor)
    raise OSError(f"{folder.name}: another process removes each temporary file that is created there")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
