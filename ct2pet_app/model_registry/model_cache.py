"""The models in memory: of each name the one that is served, and of all names one version more that somebody named.

Memory is bounded: who asks for a second other version lets go of the first, and waits for the loading again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import CheckpointError
from lib.learning.model_card.card import ModelCard
from lib.networks.precision import Precision
from lib.synthesis.synthesizer import Synthesizer


@dataclass(frozen=True)
class FileState:
    """By which a newly published file is recognised."""

    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class PublishedModel:
    """A model that can be used, without its weights.

    Attributes:
        path: A checkpoint that nobody writes over: the version's.
        state: Of the file that was put in place for it.
        version: Its number; None where the disk was too full to keep it, and `path` is the file in place.
    """

    path: Path
    state: FileState
    checksum: str
    card: ModelCard
    version: int | None


class ModelCache:
    """Loads what is asked for, one at a time. Who holds a former one keeps it."""

    def __init__(self, *, device: str, precision: Precision) -> None:
        self._device, self._precision = device, precision
        self._served: dict[str, tuple[PublishedModel, Synthesizer]] = {}
        self._other: tuple[PublishedModel, Synthesizer] | None = None
        self._loading = threading.Lock()

    def served(self, name: str, find: Callable[[], PublishedModel]) -> tuple[PublishedModel, Synthesizer]:
        """Return the model that `find` says is served, loaded anew where it is another than the last time."""
        with self._loading:
            published = find()
            known = self._served.get(name)
            if known is None or known[0] != published:
                known = self._served[name] = (published, self._load(published))
            return known

    def version(self, name: str, wanted: PublishedModel) -> tuple[PublishedModel, Synthesizer]:
        """Return a version loaded; what is served stays in memory.

        Raises:
            CheckpointError: Its file is not the one that was kept.
        """
        with self._loading:
            for known in (self._served.get(name), self._other):
                if known is not None and known[0].checksum == wanted.checksum:
                    return wanted, known[1]
            self._other = None  # before the next one needs its memory
            synthesizer = self._load(wanted)
            if synthesizer.checksum != wanted.checksum:
                raise CheckpointError(
                    f"version {wanted.version} of {name} was changed by hand; it cannot be used any more"
                )
            self._other = (wanted, synthesizer)
            return self._other

    def _load(self, model: PublishedModel) -> Synthesizer:
        return Synthesizer.load(model.path, device=self._device, precision=self._precision)


def file_state(path: Path) -> FileState | None:
    """Return what tells a file from its successor; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return FileState(status.st_ino, status.st_mtime_ns, status.st_size)
