"""The models of the server on disk and in memory.

::

    MODELS_FOLDER/<name>/model.safetensors    the served model: a copy of a version, replaced atomically
    MODELS_FOLDER/<name>/versions/            all versions (versions.py)
    MODELS_FOLDER/<name>/history.jsonl        what was served when, and why (serving_log.py)
    MODELS_FOLDER/<name>/serving.lock         held while the versions or the served one change (serving_lock.py)
    MODELS_FOLDER/<name>/runs/<run>/          training runs
    MODELS_FOLDER/prepared/<digest>/          arrays for training, shared by recipes of the same grid and windows

It is a copy, not a link, because users may overwrite it with `cp`, which must not change a version.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from ct2pet_app.errors import BusyError, NotFoundError, RequestError
from ct2pet_app.model_registry.model_cache import ModelCache, PublishedModel, file_state
from ct2pet_app.model_registry.serving_lock import ServingLock
from ct2pet_app.model_registry.serving_log import Action, Served, add_line, read_lines, served_before
from ct2pet_app.model_registry.versions import (
    MODEL_FILE,
    PUT_BY_HAND,
    UPLOADED,
    Verdict,
    Version,
    Versions,
    not_trained,
    now,
    require_stages,
)
from ct2pet_app.settings import STAGES, AppSettings
from ct2pet_app.validation import did_you_mean
from lib.errors import CheckpointError, OutputError
from lib.files import atomic_file, file_checksum, flush_to_disk
from lib.learning.checkpoint import load_network, read_card
from lib.memory import MemoryBudget, Reservation
from lib.networks.device_pool import DevicePool
from lib.synthesis.synthesizer import Synthesizer

logger = logging.getLogger(__name__)

LOADING_COPIES = 2  # of a checkpoint, while it is loaded: the file's pages, and the weights
LOADING_COPIES_ONNX = 5  # and the parsed file, what the checker makes of it, and onnxruntime's


class ModelRegistry:
    """The server's models. Files are read on request, and again when they have changed.

    Attributes:
        devices: The GPUs, or the CPU: one network at a time computes on each, so that memory is needed once.
    """

    def __init__(self, settings: AppSettings, *, budget: MemoryBudget | None = None) -> None:
        self._budget = budget or MemoryBudget(None)
        self.names = settings.models
        self.folder = settings.models_folder
        self.devices = DevicePool(settings.device)
        self._published: dict[str, PublishedModel] = {}
        self._memory = ModelCache(device=settings.device, precision=settings.precision, runtime=settings.runtime)
        self._serving = ServingLock(self.folder)  # held while the served model is changed or, by threads, read again

    def path(self, name: str) -> Path:
        """Return the path of a model's published checkpoint, which may not exist yet."""
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
        raise NotFoundError(
            f"no model {name!r} on this server; {did_you_mean(name, self.names)}",
            code="model_not_offered" if name in STAGES else "model_not_found",
            model=name[:80],
            known=list(self.names),
            models=",".join((*self.names, name)),
        )

    # -- what is served ------------------------------------------------------------------------------------------------

    def published(self, name: str) -> PublishedModel | None:
        """Return the published model; None if it is untrained. A file put there manually becomes a version.

        Raises:
            CheckpointError: The file is not a checkpoint of ct2pet, or of a model with another number of stages.
        """
        path = self.path(name)
        known, state = self._published.get(name), file_state(path)
        if state is None or (known is not None and known.state == state):
            return None if state is None else known
        with self._serving.threads:
            require_stages(read_card(path), name, MODEL_FILE)
            checksum = file_checksum(path)
            version = self._version_of(name, checksum)
            number, kept = (None, path) if version is None else (version.number, version.checkpoint)
            published = self._published[name] = PublishedModel(kept, state, checksum, read_card(kept), number)
            return published

    def loaded(self, name: str, version: int | None = None) -> tuple[PublishedModel, Synthesizer]:
        """Return the served model, or the requested version, and its synthesizer; the served model does not change.

        A newly published model is loaded again. A caller can keep using the previous one.

        Raises:
            ModelNotTrainedError: The model is not served.
            NotFoundError: There is no such version; the message lists the known ones.
            CheckpointError: As `published`; or the version is damaged.
        """
        if version is not None:
            return self._memory.version(name, self._ready(name, version))
        return self._memory.served(name, lambda: self.find(name))

    def find(self, name: str, version: int | None = None) -> PublishedModel:
        """Return the served model, or the requested version, without its weights.

        Raises:
            ModelNotTrainedError, NotFoundError, CheckpointError: As `loaded`.
        """
        if version is not None:
            return self._ready(name, version)
        published = self.published(name)
        if published is None:
            raise not_trained(name, self.versions(name))
        return published

    def synthesizer(self, name: str) -> Synthesizer:
        """Return the loaded model that is served; see `loaded`."""
        return self.loaded(name)[1]

    # -- versions ------------------------------------------------------------------------------------------------------

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return every version of a model, oldest first."""
        return self._kept(name).all()

    def version(self, name: str, number: int) -> Version:
        """Return one version.

        Raises:
            NotFoundError: There is no such version; the message lists the known ones.
        """
        versions = self.versions(name)
        for version in versions:
            if version.number == number:
                return version
        known = [version.number for version in versions]
        raise NotFoundError(
            f"{name} has no version {number}; known are {str(known)[1:-1] or 'none yet'}",
            code="version_not_found", model=name, version=number, known=known,
        )  # fmt: skip

    def history(self, name: str) -> tuple[Served, ...]:
        """Return what was served when, and why; a missing last line is added."""
        lines = read_lines(self._history_file(name))
        try:
            published = self.published(name)
        except CheckpointError:
            return lines
        newest = lines[-1].version if lines else None
        if published is None or published.version is None or published.version == newest:
            return lines
        when = datetime.fromtimestamp(published.state.mtime_ns / 1e9, UTC).isoformat(timespec="seconds")
        version = self.version(name, published.version)
        why = f"{version.origin}; its publication was not recorded"
        return (*lines, Served(when, version.number, version.checksum, "found", why))

    def keep(self, name: str, checkpoint: Path, *, origin: str, parent: int | None = None) -> Version:
        """Make a checkpoint a version, without serving it, and return it.

        Raises:
            CheckpointError: It is not a checkpoint of ct2pet, or of another model; nothing is kept.
            OutputError: The disk is full; nothing is kept.
        """
        with self._reserved(checkpoint):  # invalid weights are found before they are kept
            _, card = load_network(checkpoint)
        require_stages(card, name, checkpoint.name)
        return self._keep(name, checkpoint, origin=origin, parent=parent)

    def changing(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which no other process or server changes the served version; see `ServingLock`."""
        return self._serving.hold(name)

    def judged(self, name: str, version: Version, verdict: Verdict) -> Version:
        """Record the verdict about a version and return the version with it; raise OutputError on a full disk."""
        return self._kept(name).judged(version, verdict)

    def publish(self, name: str, checkpoint: Path) -> PublishedModel:
        """Make an uploaded checkpoint a version, serve it, and return it.

        Raises:
            CheckpointError, OutputError: As `keep`; the served model is unchanged.
        """
        self.known(name)
        version = self.keep(name, checkpoint, origin=UPLOADED)
        return self.serve(name, version.number, action="uploaded", why="uploaded by the administrator")

    def serve(self, name: str, number: int, *, action: Action, why: str) -> PublishedModel:
        """Serve a version, atomically replacing the served one, and return it.

        Raises:
            NotFoundError: There is no such version.
            CheckpointError: It is damaged, or of another model; the served model is unchanged.
            OutputError: The disk is full; the served model is unchanged.
        """
        version = self.version(name, number)
        with self.changing(name):
            before = self._unwritten(name)
            path = self.path(name)
            try:
                with atomic_file(path) as temporary:
                    shutil.copyfile(version.checkpoint, temporary)
                    if file_checksum(temporary) != version.checksum:
                        raise CheckpointError(f"version {number} of {name} was modified; it cannot be served any more")
                    with self._reserved(temporary):
                        card = load_network(temporary)[1]
                    require_stages(card, name, f"version {number}")
                    flush_to_disk(temporary)
                flush_to_disk(path.parent)
            except OSError as error:
                raise OutputError(f"{path}: cannot be written ({error}); the served model stays; free space") from error
            for line in (*before, Served(now(), number, version.checksum, action, why)):
                add_line(self._history_file(name), line)
            published = self.published(name)
        if published is None:
            raise CheckpointError(f"{name}: the published file vanished; was the models folder emptied meanwhile?")
        return published

    def roll_back(self, name: str, number: int | None = None) -> PublishedModel:
        """Serve the previously served version, or the requested one, and return it.

        Raises:
            NotFoundError: There is no such version.
            RequestError: Nothing was served before.
        """
        with self.changing(self.known(name)):
            kept = {version.number for version in self.versions(name)}
            back = number or served_before(self.history(name), kept)
            if back is None:
                if not kept:
                    raise RequestError(f"{name}: no version is kept", code="no_versions", model=name)
                message = f"{name}: no version was served before this one"
                raise RequestError(message, code="no_previous_version", model=name, versions=sorted(kept))
            return self.serve(name, back, action="rolled back", why="requested by the administrator")

    def _reserved(self, checkpoint: Path) -> AbstractContextManager[Reservation]:
        """Return a reservation of the memory that loading a checkpoint takes."""
        state = file_state(checkpoint)
        size = 0 if state is None else state.size
        copies = LOADING_COPIES if read_card(checkpoint).external is None else LOADING_COPIES_ONNX
        return self._budget.reserve(copies * size, f"loading a checkpoint of {size / 1e6:.0f} MB")

    def _ready(self, name: str, number: int) -> PublishedModel:
        version = self.version(name, number)
        card, state = read_card(version.checkpoint), file_state(version.checkpoint)
        require_stages(card, name, f"version {number}")
        if state is None:
            raise CheckpointError(f"version {number} of {name} was removed")
        return PublishedModel(version.checkpoint, state, version.checksum, card, number)

    def _kept(self, name: str) -> Versions:
        return Versions(self.folder / self.known(name) / "versions")

    def _history_file(self, name: str) -> Path:
        return self.folder / self.known(name) / "history.jsonl"

    def _unwritten(self, name: str) -> tuple[Served, ...]:
        """Return the line about the served model if it is missing in the file."""
        return self.history(name)[len(read_lines(self._history_file(name))) :]

    def _keep(self, name: str, checkpoint: Path, *, origin: str, parent: int | None = None) -> Version:
        with self.changing(name):
            highest = max((line.version for line in read_lines(self._history_file(name))), default=0)
            return self._kept(name).keep(checkpoint, origin=origin, parent=parent, above=highest)

    def _version_of(self, name: str, checksum: str) -> Version | None:
        """Return the version of the file in place; one put there manually becomes a version now."""
        known = self._kept(name).with_checksum(checksum)
        if known is not None:
            return known
        try:
            version = self._keep(name, self.path(name), origin=PUT_BY_HAND)
        except (OutputError, BusyError) as error:  # it can be used anyway
            logger.warning("%s is served without being kept as a version: %s", name, error)
            return None
        return version if version.checksum == checksum else None  # else it was overwritten meanwhile
