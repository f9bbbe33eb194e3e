"""One CT of a cohort, as the plan knows it and as a worker receives it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib.mapping import from_mapping
from lib.types import Series


@dataclass(frozen=True)
class StoredSeries:
    """A series as JSON: its files are names in one folder, or full paths where they are in several."""

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    frame_of_reference_uid: str
    description: str
    folder: str
    files: tuple[str, ...]
    frames: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, series: Series) -> StoredSeries:
        """Return a series in this form."""
        folders = {str(path.parent) for path in series.files}
        folder = folders.pop() if len(folders) == 1 else ""
        files = tuple(path.name if folder else str(path) for path in series.files)
        plain = {name: value for name, value in vars(series).items() if name != "files"}
        return cls(**plain, folder=folder, files=files)

    def series(self) -> Series:
        """Return the series."""
        plain = {name: value for name, value in vars(self).items() if name not in ("folder", "files")}
        return Series(**plain, files=tuple(Path(self.folder, name) for name in self.files))


@dataclass(frozen=True)
class Case:
    """One CT to synthesise from.

    Attributes:
        ct_uid, study_uid: Its SeriesInstanceUID and StudyInstanceUID.
        ct: The series; None for a CT of a PACS, whose headers the worker requests.
        pet: The real PET that is paired with it; None without one, and for a CT of a PACS.
    """

    ct_uid: str
    study_uid: str
    ct: StoredSeries | None = None
    pet: StoredSeries | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Case:
        """Return the case of plain values.

        Raises:
            ValueError: They are damaged.
        """
        return from_mapping(cls, values)
