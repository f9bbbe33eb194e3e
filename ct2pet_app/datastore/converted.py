"""Volumes of the studies as files that a viewer opens, made when somebody downloads them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lib.errors import OutputError
from lib.imaging.files import write_volume_file
from lib.imaging.volume import Volume
from lib.types import AtHand, Series, lie_here

KEPT_FILES = 24  # a whole-body CT takes 50 to 200 MB
MAX_ATTEMPTS = 5  # to open a file that is dropped at once
UID = re.compile(r"[0-9.]{1,64}")


class ConvertedVolumes:
    """A small cache of .nrrd files, float32, in HU or SUVbw."""

    def __init__(self, folder: Path, *, at_hand: AtHand = lie_here) -> None:
        self._folder = folder
        self._at_hand = at_hand
        self._writing = threading.Lock()

    def path_of(self, series: Series, read: Callable[[Series], Volume]) -> Path:
        """Return the file of a series, made now where it is not there yet or the series has changed.

        Raises:
            DicomError: The series cannot be read.
        """
        with self._at_hand(series), self._writing:
            name = series.uid if UID.fullmatch(series.uid) else "series"
            path = self._folder / f"{name}-{_fingerprint(series)}.nrrd"
            if not path.is_file():
                write_volume_file(read(series), path)
                self._drop_old()
            path.touch()
            return path

    def open(self, series: Series, read: Callable[[Series], Volume]) -> BinaryIO:
        """Return the open file of a series; it stays whole when it is dropped from the cache meanwhile.

        Raises:
            DicomError: The series cannot be read.
            OutputError: The disk is full.
        """
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):  # another process, or somebody by hand, has dropped it
                return self.path_of(series, read).open("rb")
        raise OutputError(f"series {series.uid}: its file is removed again and again; ask again")

    def _drop_old(self) -> None:
        newest_first = sorted(self._folder.glob("[!.]*.nrrd"), key=_modified_ns, reverse=True)
        for path in newest_first[KEPT_FILES:]:
            path.unlink(missing_ok=True)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # another process has dropped it
        return 0


def _fingerprint(series: Series) -> str:
    digest = hashlib.sha256(f"{series.uid} {series.study_uid} {series.patient_id}\n".encode("utf-8", "surrogatepass"))
    for path in series.files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
