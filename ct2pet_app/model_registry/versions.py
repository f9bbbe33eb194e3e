"""The versions of one model: every one that was trained or put here, with how it came and what was decided.

::

    FOLDER/0003/model.safetensors   the checkpoint, card in its header; read-only, never written again
    FOLDER/0003/version.json        its `Version`

A version is written under another name and appears whole, by one rename; its number is never used again. Nothing here
is ever removed: what is not needed any more is the administrator's to delete, a folder each.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ct2pet_app.server.json_values import json_object
from ct2pet_app.settings import STAGES
from lib.errors import ModelNotTrainedError, OutputError
from lib.learning.checkpoint import file_checksum
from lib.pairing.prepared import write_text

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"[0-9]{1,7}")  # a version's folder
MODEL_FILE = "model.safetensors"
RECORD_FILE = "version.json"
PUT_BY_HAND = "a file put into the models folder"
UPLOADED = "uploaded"
BEGUN = ".new-"  # what a version is called until it is whole
STALE_AFTER_S = 3600.0  # nobody copies a checkpoint that long


@dataclass(frozen=True)
class Verdict:
    """What was decided about a trained model, why, and on which figures (`Contest.as_json`)."""

    published: bool
    verdict: str
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes:
        number: Counted from 1.
        checksum: SHA-256 of the checkpoint.
        kept: When it came, UTC, ISO 8601.
        origin: The training run, `uploaded`, or a file put there by hand.
        parent: The version whose weights its training started from; None for fresh weights, or where nobody knows.
        size_bytes: Of the checkpoint.
        checkpoint: Where it lies.
        verdict: Of a trained one; None for the others, and for one whose judgement was cut off.
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
        """Return the record on disk."""
        told = {name: value for name, value in asdict(self).items() if name != "checkpoint"}
        return json.dumps(told, indent=1)


class Versions:
    """The versions in one folder. Nothing is remembered: another process may add to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> tuple[Version, ...]:
        """Return the versions that are whole, oldest first."""
        found = (_read(folder) for folder in _finished(self.folder))
        return tuple(version for version in found if version is not None)

    def with_checksum(self, checksum: str) -> Version | None:
        """Return the version of a checkpoint, or None."""
        return next((version for version in self.all() if version.checksum == checksum), None)

    def keep(self, checkpoint: Path, *, origin: str, parent: int | None = None, above: int = 0) -> Version:
        """Copy a checkpoint into a new version and return it; the same checkpoint is the version it was before.

        Args:
            above: Its number is larger than this one, too.

        Raises:
            OutputError: The disk is full, or the folder cannot be written; nothing is left of it.
        """
        beside = self.folder / f"{BEGUN}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            beside.mkdir(parents=True)
            self._drop_leftovers()
            copy = beside / MODEL_FILE
            shutil.copyfile(checkpoint, copy)
            checksum = file_checksum(copy)
            known = self.with_checksum(checksum)
            if known is not None:
                return known
            flush_to_disk(copy)
            copy.chmod(0o444)
            size = copy.stat().st_size
            version = Version(0, checksum, now(), origin, parent, size, copy)
            return self._put_in_place(beside, version, above)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: the model cannot be kept ({error}); nothing was changed, free space and ask again"
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def judged(self, version: Version, verdict: Verdict) -> Version:
        """Write down what was decided about a version, and return it with that.

        Raises:
            OutputError: It cannot be written; what was written before stays.
        """
        told = replace(version, verdict=verdict)
        try:
            write_text(version.checkpoint.with_name(RECORD_FILE), told.to_json())
        except OSError as error:
            raise OutputError(f"{version.checkpoint.parent}: the verdict cannot be written ({error})") from error
        return told

    def _put_in_place(self, beside: Path, version: Version, above: int) -> Version:
        while True:
            number = max([above, *(int(folder.name) for folder in _finished(self.folder))]) + 1
            place = self.folder / f"{number:04d}"
            numbered = replace(version, number=number)
            write_text(beside / RECORD_FILE, numbered.to_json())
            try:
                beside.rename(place)
            except OSError:
                if place.exists():  # another process took that number
                    continue
                raise
            flush_to_disk(self.folder)
            return replace(numbered, checkpoint=place / MODEL_FILE)

    def _drop_leftovers(self) -> None:
        for folder in self.folder.glob(f"{BEGUN}*"):
            with contextlib.suppress(FileNotFoundError):  # of another process, which has put it in place meanwhile
                # also of a clock that was ahead: its time is never an hour ago
                if abs(time.time() - folder.stat().st_mtime) > STALE_AFTER_S:
                    shutil.rmtree(folder, ignore_errors=True)


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


def how_to_serve(name: str, number: int) -> str:
    """Return how a kept version is served in spite of its verdict."""
    return f'POST /ct2pet/models/{name}/serve with {{"version": {number}}} serves it all the same'


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def flush_to_disk(path: Path) -> None:
    """Return when a file, or a folder's list of files, would survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _finished(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if NUMBER.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def _require_types(version: Version) -> None:
    texts: list[object] = [version.checksum, version.kept, version.origin]
    numbers: list[object] = [version.number, version.size_bytes, *([] if version.parent is None else [version.parent])]
    verdict: Verdict | None = version.verdict
    if verdict is not None:
        texts.append(verdict.verdict)
        if not isinstance(verdict.published, bool) or not isinstance(verdict.figures, Mapping | None):
            raise TypeError("its verdict is none")
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise TypeError("a value of another type")


def _read(folder: Path) -> Version | None:
    try:
        record = json_object((folder / RECORD_FILE).read_text())
        verdict = record.pop("verdict")
        version = Version(
            **record, checkpoint=folder / MODEL_FILE, verdict=None if verdict is None else Verdict(**verdict)
        )
        _require_types(version)
        if version.number != int(folder.name) or not version.checkpoint.is_file():
            raise ValueError("its number is not its folder's, or its checkpoint is missing")
        return version
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s: not listed, it was changed by hand (%s)", folder, error)
        return None
