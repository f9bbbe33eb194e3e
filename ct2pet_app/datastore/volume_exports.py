"""Volumes of the studies as files for viewers, converted when a client downloads them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from ct2pet_app.server.concurrency import IsDisconnected, never, until_disconnected, waited_for
from lib.dicom.scan.scan import ScannedSeries
from lib.errors import OutputError
from lib.files import states_digest
from lib.imaging.files.memory_estimate import series_read_bytes
from lib.imaging.files.volume_file import FAST, write_volume_file
from lib.imaging.volume import Volume
from lib.memory import MemoryBudget
from lib.types import LocalFiles, Progress, Series, already_local

KEPT_FILES = 24  # a whole-body CT takes 50 to 200 MB
MAX_ATTEMPTS = 5  # to open a file that is removed at the same time
UID = re.compile(r"[0-9.]{1,64}")


class ReadSeries(Protocol):
    """Reads a series; the progress is called after every slice."""

    def __call__(self, series: Series, *, progress: Progress) -> Volume: ...


class VolumeExports:
    """A small cache of .nrrd files, float32, in HU or SUVbw."""

    def __init__(
        self, folder: Path, *, local_files: LocalFiles = already_local, budget: MemoryBudget | None = None
    ) -> None:
        self._folder = folder
        self._local_files = local_files
        self._budget = budget or MemoryBudget(None)
        self._changing = threading.Lock()
        self._writing: dict[str, _Writing] = {}

    def path_of(self, found: ScannedSeries, read: ReadSeries, *, is_disconnected: IsDisconnected = never) -> Path:
        """Return the file of a usable series; it is converted now if it is missing or the series has changed.

        Requests for a series that is being converted wait for that conversion, others do not.

        Raises:
            DicomError: The series cannot be read.
            MemoryLimitError: It is larger than the memory budget.
            OperationCancelledError: The client has disconnected.
        """
        series = found.series
        name = series.uid if UID.fullmatch(series.uid) else "series"
        with self._local_files(series, cancelled=is_disconnected):
            path = self._folder / f"{name}-{_fingerprint(series)}.nrrd"
            with self._alone(path.name, is_disconnected):
                if not path.is_file():
                    self._convert(found, read, path, is_disconnected)
                path.touch()
                return path

    def open(self, found: ScannedSeries, read: ReadSeries, *, is_disconnected: IsDisconnected = never) -> BinaryIO:
        """Return the open file of a series; it stays complete if it is removed from the cache meanwhile.

        Raises:
            OutputError: The disk is full.
            CT2PETError: As `path_of`.
        """
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # removed by another process or a user
                return self.path_of(found, read, is_disconnected=is_disconnected).open("rb")
        raise OutputError(f"series {found.series.uid}: its file is removed repeatedly; try again")

    def _convert(self, found: ScannedSeries, read: ReadSeries, path: Path, is_disconnected: IsDisconnected) -> None:
        assert found.geometry is not None  # of every usable series
        needed, what = series_read_bytes(found.geometry.shape), f"converting {found.series.slice_count} slices"
        progress = until_disconnected(is_disconnected)
        with self._budget.reserve(needed, what, cancelled=is_disconnected, alone=True):
            volume = read(found.series, progress=progress)
            write_volume_file(volume, path, compression=FAST, progress=progress)
        self._drop_old()

    @contextlib.contextmanager
    def _alone(self, name: str, is_disconnected: IsDisconnected) -> Iterator[None]:
        """Hold the lock of one file."""
        with self._changing:
            writing = self._writing.setdefault(name, _Writing())
            writing.users += 1
        try:
            with waited_for(writing.lock, is_disconnected):
                yield
        finally:
            with self._changing:
                writing.users -= 1
                if not writing.users:
                    del self._writing[name]

    def _drop_old(self) -> None:
        newest_first = sorted(self._folder.glob("[!.]*.nrrd"), key=_modified_ns, reverse=True)
        for path in newest_first[KEPT_FILES:]:
            path.unlink(missing_ok=True)


class _Writing:
    """A conversion in progress that other requests can wait for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # removed by another process
        return 0


def _fingerprint(series: Series) -> str:
    text = f"{series.uid} {series.study_uid} {series.patient_id}\n{states_digest(series.files)}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
