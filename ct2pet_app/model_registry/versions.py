"""The versions of one model: every one that was trained, uploaded or copied here, with its origin and verdict.

::

    FOLDER/0003/model.safetensors   the checkpoint, card in its header; read-only, never written again
    FOLDER/0003/version.json        its `Version`

A version is written under a temporary name and appears complete, by one rename; its number is never used again. Nothing
here is ever removed: the administrator deletes the folders that are no longer needed.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from ct2pet_app.json_values import json_object
from ct2pet_app.settings import STAGES
from ct2pet_app.validation import STORED
from lib.errors import CheckpointError, ModelNotTrainedError, OutputError
from lib.files import file_checksum, flush_to_disk, remove_abandoned, unfinished_folder, write_text
from lib.learning.model_card.card import ModelCard

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[0-9]{1,7}")  # a version's folder
MODEL_FILE = "model.safetensors"
RECORD_FILE = "version.json"
PUT_BY_HAND = "a file put into the models folder"
UPLOADED = "uploaded"


@dataclass(frozen=True, config=STORED)
class Verdict:
    """Decision about a trained model, its reason, and the metrics behind it (`Contest.as_json`)."""

    published: bool
    verdict: str
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True, config=STORED)
class Version:
    """One version of a model.

    Attributes:
        number: Counted from 1.
        checksum: SHA-256 of the checkpoint.
        kept: When it was added, UTC, ISO 8601.
        origin: The training run, `uploaded`, or a file that was put into the models folder manually.
        parent: The version whose weights its training started from; None for random weights, or if unknown.
        size_bytes: Of the checkpoint.
        checkpoint: Its path.
        verdict: Of a trained version; None for others, and if the evaluation was interrupted.
    """

    number: int
    checksum: str
    kept: str
    origin: str
    parent: int | None
    size_bytes: int
    checkpoint: Path
    verdict: Verdict | None = None

    def to_json(self) -> str:
        """Return the record that is written to disk."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "checkpoint"}, indent=1)


class Versions:
    """The versions in one folder, read again by each call: another process may add to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> tuple[Version, ...]:
        """Return the complete versions, oldest first."""
        found = (_read(folder) for folder in _finished(self.folder))
        return tuple(version for version in found if version is not None)

    def with_checksum(self, checksum: str) -> Version | None:
        """Return the version of a checkpoint, or None."""
        return next((version for version in self.all() if version.checksum == checksum), None)

    def keep(self, checkpoint: Path, *, origin: str, parent: int | None = None, above: int = 0) -> Version:
        """Copy a checkpoint into a new version and return it; a checkpoint that is kept already is not copied again.

        Args:
            above: The number of the new version is larger than this.

        Raises:
            OutputError: The disk is full, or the folder cannot be written; no files remain.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.folder.glob(".*"))
            with unfinished_folder(self.folder, ".new") as temporary:
                copy = temporary / MODEL_FILE
                shutil.copyfile(checkpoint, copy)
                checksum = file_checksum(copy)
                known = self.with_checksum(checksum)
                if known is not None:
                    return known
                flush_to_disk(copy)
                copy.chmod(0o444)
                size = copy.stat().st_size
                version = Version(0, checksum, now(), origin, parent, size, copy)
                return self._put_in_place(temporary, version, above)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the model cannot be kept ({error}); nothing was changed; free space and try again"
            ) from error

    def judged(self, version: Version, verdict: Verdict) -> Version:
        """Record the verdict about a version, and return the version with it.

        Raises:
            OutputError: It cannot be written; the record before stays.
        """
        judged = replace(version, verdict=verdict)
        try:
            write_text(version.checkpoint.with_name(RECORD_FILE), judged.to_json())
        except OSError as error:
            raise OutputError(f"{version.checkpoint.parent}: the verdict cannot be written ({error})") from error
        return judged

    def _put_in_place(self, temporary: Path, version: Version, above: int) -> Version:
        while True:
            number = max([above, *(int(folder.name) for folder in _finished(self.folder))]) + 1
            place = self.folder / f"{number:04d}"
            numbered = replace(version, number=number)
            write_text(temporary / RECORD_FILE, numbered.to_json())
            try:
                temporary.rename(place)
            except OSError:
                if place.exists():  # another process took that number
                    continue
                raise
            flush_to_disk(self.folder)
            return replace(numbered, checkpoint=place / MODEL_FILE)


def not_trained(name: str, kept: Sequence[Version] = ()) -> ModelNotTrainedError:
    """Return the error of a model that is not served: it has no weights, or no version of it that is kept is served."""
    if not kept:
        return ModelNotTrainedError(f"model {name} is not trained yet", model=name, stages=STAGES[name])
    newest = kept[-1]
    verdict = "" if newest.verdict is None or newest.verdict.published else f": {newest.verdict.verdict}".rstrip(".")
    return ModelNotTrainedError(
        f"of model {name} nothing is served, but {len(kept)} version(s) are kept{verdict}",
        code="model_not_served",
        model=name,
        versions=[version.number for version in kept],
        version=newest.number,
    )


def require_stages(card: ModelCard, name: str, what: str) -> None:
    """Check that a card is of a model.

    Raises:
        CheckpointError: It is of a model with another number of stages.
    """
    if card.external is None and card.network.stages != STAGES[name]:  # an imported network may serve any model
        owner = next((model for model, stages in STAGES.items() if stages == card.network.stages), "another model")
        raise CheckpointError(
            f"{what}: holds {card.network.stages} stage(s), {name} has {STAGES[name]}; it belongs to {owner}, "
            "which must be among the server's models"
        )


def how_to_serve(name: str, number: int) -> str:
    """Return how a kept version is served in spite of its verdict."""
    return f'POST /ct2pet/models/{name}/serve with {{"version": {number}}} serves it anyway'


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finished(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if NUMBER.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def _read(folder: Path) -> Version | None:
    try:
        record = json_object((folder / RECORD_FILE).read_text())
        verdict = record.pop("verdict")
        version = Version(**record, checkpoint=folder / MODEL_FILE, verdict=verdict and Verdict(**verdict))
        if version.number != int(folder.name) or not version.checkpoint.is_file():
            raise ValueError("its number is not its folder's, or its checkpoint is missing")
        return version
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.warning("%s: not listed, it was modified (%s)", folder, type(error).__name__)
        return None
