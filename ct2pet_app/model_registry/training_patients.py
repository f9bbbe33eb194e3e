"""Patients that the models of this server were trained on: the served ones and every kept version."""

from __future__ import annotations

from pathlib import Path

from ct2pet_app.model_registry.model_cache import FileState, file_state
from lib.errors import CheckpointError
from lib.learning.checkpoint import read_card

WHERE = ("*/model.safetensors", "*/versions/*/model.safetensors")


class TrainingPatients:
    """The patients behind the checkpoints of a models folder; each card is read once."""

    def __init__(self, models_folder: Path) -> None:
        self._folder = models_folder
        self._read: dict[Path, tuple[FileState, frozenset[str]]] = {}

    def __call__(self) -> frozenset[str]:
        """Return the hashes of all these patients' IDs (`patient_digest`), as far as cards can be read."""
        found: set[str] = set()
        for path in (path for pattern in WHERE for path in self._folder.glob(pattern)):
            state, read = file_state(path), self._read.get(path)
            if state is None:
                continue
            if read is None or read[0] != state:
                read = self._read[path] = (state, _patients(path))
            found |= read[1]
        return frozenset(found)


def _patients(path: Path) -> frozenset[str]:
    try:
        return frozenset(read_card(path).training.patients)
    except (CheckpointError, OSError):  # it cannot be served either; an attempt to do so reports the error
        return frozenset()
