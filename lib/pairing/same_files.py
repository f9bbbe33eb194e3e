"""Whether what was made of some files is still of these files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def mark_of_files(files: Iterable[Path]) -> str:
    """Return a mark by which the same files are known again: `names:states`.

    States (sizes and times) are left empty where a file is not at hand, as one of a PACS may not be: a series there has
    its files' names from the SOPInstanceUIDs, which another content may not have.
    """
    names, states = hashlib.sha256(), hashlib.sha256()
    all_there = True
    for path in files:
        name = os.fsencode(path.name)  # may be bytes that are no UTF-8
        names.update(name + b"\n")
        try:
            status = path.stat()
        except FileNotFoundError:
            all_there = False
        else:
            states.update(name + f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{names.hexdigest()[:16]}:{states.hexdigest()[:16] if all_there else ''}"


def are_same(first: str, second: str) -> bool:
    """Return whether two marks are of the same files, as far as both of them know."""
    first_names, _, first_states = first.partition(":")
    second_names, _, second_states = second.partition(":")
    return first_names == second_names and (not first_states or not second_states or first_states == second_states)
