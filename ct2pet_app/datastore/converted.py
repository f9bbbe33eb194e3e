"""Volumes of the studies as files that a viewer opens, made when somebody downloads them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from pathlib import Path

from lib.imaging.files import write_volume_file
from lib.imaging.volume import Volume
from lib.types import Series

KEPT_FILES = 24  # a whole-body CT takes 50 to 200 MB
UID = re.compile(r"[0-9.]{1,64}")


class ConvertedVolumes:
    """A small cache of .nrrd files, float32, in HU or SUVbw."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()

    def path_of(self, series: Series, read: Callable[[Series], Volume]) -> Path:
        """Return the file of a series, made now where it is not there yet or the series has changed.

        Raises:
            DicomError: The series cannot be read.
        """
        name = series.uid if UID.fullmatch(series.uid) else "series"
        path = self._folder / f"{name}-{_fingerprint(series)}.nrrd"
        with self._writing:
            if not path.is_file():
                write_volume_file(read(series), path)
                self._drop_old()
            path.touch()
            return path

    def _drop_old(self) -> None:
        newest_first = sorted(self._folder.glob("*.nrrd"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in newest_first[KEPT_FILES:]:
            path.unlink(missing_ok=True)


def _fingerprint(series: Series) -> str:
    digest = hashlib.sha256(f"{series.uid} {series.study_uid} {series.patient_id}\n".encode())
    for path in series.files:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
