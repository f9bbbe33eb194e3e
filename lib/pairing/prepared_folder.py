"""Write prepared arrays into a folder, one process at a time, and find those that can be reused.

::

    FOLDER/index.json  prepare.lock        the pairs; held by the process that prepares
    FOLDER/pairs/<id>/pair.json  *.npy     one pair; put in place by one rename
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lib.errors import PreparedDataError
from lib.files import unfinished_folder
from lib.mapping import from_mapping
from lib.pairing.prepared import Preparation, PreparedPair, PreparedSet, write_entry
from lib.types import SeriesPair

logger = logging.getLogger(__name__)

LOCK_FILE = "prepare.lock"


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Wait until no other process prepares arrays in a folder, and hold its lock.

    Raises:
        PreparedDataError: The folder cannot be written.
    """
    lock = FileLock(out / LOCK_FILE)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("another process is preparing arrays in this folder; waiting for it")
            lock.acquire()
    except OSError as error:
        raise PreparedDataError(f"{out}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def pair_id(pair: SeriesPair) -> str:
    """Return the folder name of a pair: a hash of its two series UIDs."""
    return hashlib.sha256(f"{pair.ct.uid} {pair.pet.uid}".encode()).hexdigest()[:16]


def write_pair(out: Path, entry: PreparedPair, arrays: dict[str, NDArray[Any]]) -> None:
    """Write the arrays of a pair and its entry, in place of what there is.

    Raises:
        PreparedDataError: They cannot be written.
    """
    final = out / "pairs" / entry.id
    try:
        with unfinished_folder(final.parent, f".{entry.id}") as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", np.ascontiguousarray(array))
            write_entry(temporary, entry)
            shutil.rmtree(final, ignore_errors=True)
            temporary.replace(final)
    except OSError as error:
        raise PreparedDataError(
            f"{final}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error


def entry_on_disk(out: Path, pair: SeriesPair, source: str, preparation: Preparation) -> PreparedPair | None:
    """Return the entry of complete arrays made from the same files in the same way; None if there are none."""
    path = out / "pairs" / pair_id(pair) / "pair.json"
    try:
        entry = from_mapping(PreparedPair, json.loads(path.read_text()))
        PreparedSet(out, preparation, (entry,)).arrays(entry)
    except (OSError, ValueError, TypeError, PreparedDataError):
        return None
    return entry if (entry.source, entry.preparation) == (source, preparation.digest()) else None


def refuse_other_preparation(out: Path, preparation: Preparation) -> None:
    """Check that a folder has no arrays of another grid or windows.

    Raises:
        PreparedDataError: It has.
    """
    try:
        found = PreparedSet.open(out).preparation
    except PreparedDataError:  # a missing or damaged index is rewritten; `pair.json` states how each pair was prepared
        return
    if found != preparation:
        raise PreparedDataError(
            f"{out}: has arrays of another grid or windows ({found.grid}, {found.windows}); choose another folder"
        )
