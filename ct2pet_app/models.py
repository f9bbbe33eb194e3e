"""The models of the server on disk and in memory.

::

    MODELS_FOLDER/<name>/model.safetensors    what inference uses; put in place in one step
    MODELS_FOLDER/<name>/runs/<run>/          training runs
    MODELS_FOLDER/prepared/<digest>/          arrays for training, shared by recipes of the same grid and windows
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from ct2pet_app.errors import NotFoundError
from ct2pet_app.settings import STAGES, AppSettings, did_you_mean
from lib.errors import CheckpointError, ModelNotTrainedError
from lib.learning.card import ModelCard
from lib.learning.checkpoint import file_checksum, load_checkpoint, read_card
from lib.synthesis.synthesizer import Synthesizer

MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class FileState:
    """By which a newly published file is recognised."""

    inode: int
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class PublishedModel:
    """A model that can be used, without its weights."""

    path: Path
    state: FileState
    checksum: str
    card: ModelCard


class ModelStore:
    """The server's models. Nothing is read before it is asked for; what was read is kept until a new file is there.

    Attributes:
        in_use: Held while a network computes: one at a time, so that memory is needed once.
    """

    def __init__(self, settings: AppSettings) -> None:
        self.names = settings.models
        self.folder = settings.models_folder
        self.in_use = threading.Lock()
        self._device, self._precision = settings.device, settings.precision
        self._published: dict[str, PublishedModel] = {}
        self._loaded: dict[str, tuple[FileState, Synthesizer]] = {}
        self._loading = threading.Lock()

    def path(self, name: str) -> Path:
        """Return where a model's published checkpoint lies, or will lie."""
        return self.folder / self.known(name) / MODEL_FILE

    def runs(self, name: str) -> Path:
        """Return the folder of a model's training runs."""
        return self.folder / self.known(name) / "runs"

    def known(self, name: str) -> str:
        """Return the name.

        Raises:
            NotFoundError: The server has no such model.
        """
        if name in self.names:
            return name
        more = "" if name not in STAGES else f"; start the server with --conf models {','.join((*self.names, name))}"
        raise NotFoundError(f"no model {name!r} on this server; {did_you_mean(name, self.names)}{more}")

    def published(self, name: str) -> PublishedModel | None:
        """Return a model as published; None where it is not trained yet.

        Raises:
            CheckpointError: The file there is none of ours, or has another number of stages than its name says.
        """
        path = self.path(name)
        state = file_state(path)
        if state is None:
            return None
        known = self._published.get(name)
        if known is None or known.state != state:
            card = read_card(path)
            if card.network.stages != STAGES[name]:
                raise CheckpointError(
                    f"{name}: {MODEL_FILE} holds {card.network.stages} stage(s), expected {STAGES[name]}; "
                    "put it in the folder of the model it is"
                )
            known = self._published[name] = PublishedModel(path, state, file_checksum(path), card)
        return known

    def synthesizer(self, name: str) -> Synthesizer:
        """Return the loaded model; one that was published since the last time is loaded anew.

        Who holds the former one keeps it.

        Raises:
            ModelNotTrainedError: Nobody has trained it yet; the message says how.
            CheckpointError: As `published`.
        """
        with self._loading:
            published = self.published(name)
            if published is None:
                raise ModelNotTrainedError(how_to_train(name))
            loaded = self._loaded.get(name)
            if loaded is None or loaded[0] != published.state:
                synthesizer = Synthesizer.load(published.path, device=self._device, precision=self._precision)
                loaded = self._loaded[name] = (published.state, synthesizer)
            return loaded[1]

    def publish(self, name: str, checkpoint: Path) -> PublishedModel:
        """Put a checkpoint in the place of the published one, in one step, and return it.

        Raises:
            CheckpointError: It is none of ours, or of another model; what was published stays.
        """
        _, card = load_checkpoint(checkpoint)  # weights that do not fit are found before they are published
        if card.network.stages != STAGES[self.known(name)]:
            raise CheckpointError(
                f"{checkpoint.name}: holds {card.network.stages} stage(s), {name} has {STAGES[name]}; not published"
            )
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            shutil.copyfile(checkpoint, beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        published = self.published(name)
        if published is None:
            raise CheckpointError(f"{name}: the published file vanished; was the models folder emptied meanwhile?")
        return published


def file_state(path: Path) -> FileState | None:
    """Return what tells a file from its successor; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return FileState(status.st_ino, status.st_mtime_ns, status.st_size)


def how_to_train(name: str) -> str:
    """Return the sentence that tells a user how an untrained model gets its weights."""
    return (
        f"model {name} is not trained yet: train it here (POST /train/{name}, or Train in Slicer), or run "
        f"`python main.py train STUDIES --out RUN --stages {STAGES[name]}` and put RUN/{MODEL_FILE} into the server's "
        f"models folder as {name}/{MODEL_FILE}"
    )
