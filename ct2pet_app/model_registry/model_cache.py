"""The models in memory: the served version of each model, and one other version that was requested.

Memory is bounded: loading a second other version drops the first.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.errors import CheckpointError
from lib.learning.model_card.card import ModelCard
from lib.networks.precision import Precision
from lib.networks.runtimes.names import RuntimeName
from lib.synthesis.synthesizer import Synthesizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileState:
    """The file attributes by which a newly published file is recognised."""

    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class PublishedModel:
    """A model that can be used, without its weights.

    Attributes:
        path: The version's checkpoint, which is never overwritten.
        state: Of the published file.
        version: Its number; None if the disk was too full to keep it; then `path` is the published file.
    """

    path: Path
    state: FileState
    checksum: str
    card: ModelCard
    version: int | None


class ModelCache:
    """Loads requested models, one at a time. A caller can keep using a model that was dropped."""

    def __init__(self, *, device: str, precision: Precision, runtime: RuntimeName = "auto") -> None:
        self._device, self._precision = device, precision
        self._runtime: RuntimeName = runtime
        self._served: dict[str, tuple[PublishedModel, Synthesizer]] = {}
        self._other: tuple[PublishedModel, Synthesizer] | None = None
        self._loading = threading.Lock()

    def served(self, name: str, find: Callable[[], PublishedModel]) -> tuple[PublishedModel, Synthesizer]:
        """Return the model that `find` returns, loaded again if it has changed."""
        with self._loading:
            published = find()
            known = self._served.get(name)
            if known is None or known[0] != published:
                known = self._served[name] = (published, self._load(published))
            return known

    def version(self, name: str, requested: PublishedModel) -> tuple[PublishedModel, Synthesizer]:
        """Return a loaded version; the served one stays in memory.

        Raises:
            CheckpointError: Its file is not the one that was kept.
        """
        with self._loading:
            for known in (self._served.get(name), self._other):
                if known is not None and known[0].checksum == requested.checksum:
                    return requested, known[1]
            self._other = None  # before the next one needs its memory
            synthesizer = self._load(requested)
            if synthesizer.checksum != requested.checksum:
                raise CheckpointError(f"version {requested.version} of {name} was modified; it cannot be used any more")
            self._other = (requested, synthesizer)
            return self._other

    def _load(self, model: PublishedModel) -> Synthesizer:
        synthesizer = Synthesizer.load(
            model.path, device=self._device, precision=self._precision, runtime=self._runtime
        )
        logger.info("%s runs by %s", model.card.name, synthesizer.runtime)
        return synthesizer


def file_state(path: Path) -> FileState | None:
    """Return the attributes that identify the current file; None if there is none.

    The file is opened because an NFS client then asks its server; otherwise it may answer from memory for a minute.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return FileState(status.st_ino, status.st_mtime_ns, status.st_size)
