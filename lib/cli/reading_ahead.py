"""Read a CT in a process of its own, while this one imports torch.

A thread would gain nothing: parsing headers and importing modules both hold the interpreter's lock.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from lib.dicom.scan.open_ct import find_ct, read_ct_series
from lib.imaging.files.child_main import end_with_parent
from lib.imaging.volume import Unit, Volume
from lib.types import Progress, Series

PROGRESS_INTERVAL = 16  # slices; a pipe holds a thousand reports until they are received

Read = Callable[[Progress], tuple[Volume, Series]]


@contextmanager
def reading_ahead(ct: Path, series_uid: str | None) -> Iterator[Read]:
    """Return a context with a function that returns the CT of a DICOM folder and its series.

    The folder is read from the beginning of the context on, on Linux and as long as torch has not been imported: the
    process is forked, which is not safe among torch's threads. Otherwise, and after any failure of that process, it is
    read by the function, so that errors are the same.

    Args:
        ct: The folder.
        series_uid: Of the CT, if the folder has several.
    """

    def read_here(progress: Progress) -> tuple[Volume, Series]:
        """Read the folder in this process."""
        series = find_ct(ct, series_uid=series_uid, progress=progress)
        return read_ct_series(series, progress=progress), series

    if not hasattr(os, "memfd_create") or "torch" in sys.modules:
        yield read_here
        return
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with os.fdopen(os.memfd_create("ct"), "r+b") as memory, receiver:
        child = context.Process(target=_send, args=(read_here, sender, memory.fileno(), os.getpid()), daemon=True)
        child.start()
        sender.close()

        def read(progress: Progress) -> tuple[Volume, Series]:
            """Return what the other process has read."""
            found = _received(receiver, memory.fileno(), progress)
            return read_here(progress) if found is None else found

        try:
            yield read
        finally:
            child.kill()
            child.join()


def _send(read: Read, sender: Connection, memory: int, parent: int) -> None:
    """Send progress, then the series and the geometry of a CT; its voxels are written to a file in memory."""
    with suppress(BaseException):  # the other process reads again, and raises the error
        end_with_parent(parent)
        volume, series = read(partial(_send_progress, sender))
        os.truncate(memory, volume.array.nbytes)
        with mmap.mmap(memory, volume.array.nbytes) as shared:
            np.copyto(np.frombuffer(shared, np.float32).reshape(volume.array.shape), volume.array)
        sender.send((series, volume.geometry))
    os._exit(0)


def _send_progress(sender: Connection, done: int, total: int, what: str) -> None:
    if done % PROGRESS_INTERVAL == 0 or done == total:
        sender.send((done, total, what))


def _received(receiver: Connection, memory: int, progress: Progress) -> tuple[Volume, Series] | None:
    """Return the CT that another process sends, None if it has failed."""
    try:
        while len(message := receiver.recv()) == 3:
            progress(*message)
    except EOFError:
        return None
    series, geometry = message
    array = np.frombuffer(mmap.mmap(memory, 0), np.float32).reshape(geometry.shape)
    return Volume(array, geometry, Unit.HU), series
