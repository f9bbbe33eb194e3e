"""The lock under which a model's versions are added and its served version is changed.

Uploads and requests change them in a server, trainings in their own processes, and several servers may share the models
folder. The system releases the lock when its process ends; between machines it needs a file system with locks (NFS 4).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ct2pet_app.errors import BusyError
from lib.errors import OutputError

LOCK_FILE = "serving.lock"
TIMEOUT_S = 120.0  # a checkpoint is copied and loaded meanwhile; an NFS server keeps a lost machine's lock for 90 s


class ServingLock:
    """Held by one thread of one process at a time, and reentrant in that thread.

    Attributes:
        threads: The part of it between the threads of this process.
    """

    def __init__(self, models_folder: Path) -> None:
        self._folder = models_folder
        self.threads = threading.RLock()
        self._files: dict[str, FileLock] = {}

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of a model.

        Raises:
            BusyError: Another process holds it for too long.
            OutputError: The folder cannot be written.
        """
        path = self._folder / name / LOCK_FILE
        with self.threads:
            file = self._files.setdefault(name, FileLock(path, timeout=TIMEOUT_S, thread_local=False))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file.acquire()
            except Timeout as error:
                raise BusyError(
                    f"another process has been changing what {name} serves for {TIMEOUT_S:.0f} s; try again"
                ) from error
            except OSError as error:
                raise OutputError(f"{path}: cannot be written or locked ({error})") from error
            try:
                yield
            finally:
                file.release()
