"""How every study of a cohort is synthesised, and what identifies that: the same identity means the same files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import lib
from lib.cohort.pacs import PacsAddress
from lib.errors import CheckpointError
from lib.files import file_checksum
from lib.learning.model_card.card import ModelCard
from lib.networks.runtimes.names import RuntimeName
from lib.synthesis.dicom_out import ModelLabel

FOLDER = "folder"  # destination of results that are written to the cohort's folder


@dataclass(frozen=True)
class ModelFile:
    """A checkpoint, whose bytes travel to workers that do not see the user's disk."""

    name: str
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> ModelFile:
        """Return the content of a file.

        Raises:
            CheckpointError: It cannot be read.
        """
        try:
            return cls(path.name, path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}); name a model file") from error


@dataclass(frozen=True)
class StudySettings:
    """What a worker needs to know for every study.

    Attributes:
        out: Folder of the cohort; all workers see it under this path, unless the results go to a PACS.
        pacs: The PACS that the CTs come from; None for a folder.
        store: Whether to store the results in the PACS instead of writing them to `out`.
        filters: Attributes of the CTs.
        allow_unlike: Whether to synthesise also from a CT that is unlike the training CTs.
        device, runtime: As of `synthesize`.
    """

    out: Path
    pacs: PacsAddress | None = None
    store: bool = False
    filters: Mapping[str, str] = field(default_factory=dict)
    allow_unlike: bool = False
    device: str = "auto"
    runtime: RuntimeName = "auto"


@dataclass(frozen=True)
class StudyContext:
    """What every step of every study needs: the settings, and the model without its network.

    Attributes:
        settings: Of the cohort.
        label: Of the model, for headers and UIDs.
        card: Of the model, for baselines and the split.
    """

    settings: StudySettings
    label: ModelLabel
    card: ModelCard


@dataclass(frozen=True)
class Identity:
    """What the files of a cohort depend on, besides the CTs.

    Attributes:
        weights: SHA-256 over the checksums of the models, in their order.
        version: Of ct2pet, which is in the header of every file.
        runtime, device: As the user chose them.
        allow_unlike: As in `StudySettings`.
        destination: `folder`, or the address of the PACS that stores the results.
    """

    weights: str
    version: str
    runtime: str
    device: str
    allow_unlike: str
    destination: str

    @classmethod
    def of(cls, models: Sequence[Path], settings: StudySettings) -> Identity:
        """Return the identity of models and settings.

        Raises:
            CheckpointError: A model file cannot be read.
        """
        try:
            checksums = [file_checksum(path) for path in models]
        except OSError as error:
            raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror}); name a model file") from error
        return cls(
            weights=hashlib.sha256(" ".join(checksums).encode()).hexdigest() if len(checksums) > 1 else checksums[0],
            version=lib.__version__,
            runtime=settings.runtime,
            device=settings.device,
            allow_unlike="yes" if settings.allow_unlike else "no",
            destination=settings.pacs.url if settings.store and settings.pacs is not None else FOLDER,
        )

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """Return what differs from a recorded identity, as text."""
        names = [one.name for one in fields(self)]
        return [
            f"{name} {other.get(name, '?')[:24]} (now {getattr(self, name)[:24]})"
            for name in names
            if other.get(name) != getattr(self, name)
        ]
