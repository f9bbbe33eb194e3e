"""Types shared by all layers: Series, ListedSeries, Study, SeriesPair, and callbacks for progress and cancellation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.errors import DicomError, PairingError

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def finite_or_none(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Return the numbers with NaN and infinity, which JSON does not have, replaced by None."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


class NamedNumbers:
    """Base class of dataclasses whose fields are all numbers."""

    def as_json(self) -> dict[str, float | None]:
        """Return the numbers by name; None where not finite."""
        return finite_or_none(vars(self))


class Progress(Protocol):
    """Callback of a long operation: steps done, total number of steps, and the current step."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def no_progress(done: int, total: int, what: str) -> None:
    """Ignore progress."""


def partial_progress(progress: Progress, index: int, count: int, title: str) -> Progress:
    """Return a callback for part `index` (from 0) of an operation with `count` equal parts."""

    def report(done: int, total: int, what: str) -> None:
        """Report the progress of the part as progress of the complete operation."""
        progress(index * total + done, count * total, f"{title}: {what}")

    return report


def never_cancelled() -> bool:
    """Return False: the operation is never cancelled."""
    return False


class LocalFiles(Protocol):
    """Callable that returns a context in which the files of series exist locally; a PACS has to send them first."""

    def __call__(
        self, *series: Series, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[None]:
        """Return a context in which `Series.files` exist.

        Args:
            series: Series whose files are needed.
            cancelled: Polled by the calling thread while it waits; once True, entering the context raises
                FetchCancelledError.
        """
        ...


def already_local(*_: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:  # noqa: ARG001
    """Return a context that does nothing: the files of a folder are local."""
    return nullcontext()


class SliceSource(NamedTuple):
    """Where a slice is stored: its file and frame number, counted from 1; frame 0 for a single-frame file."""

    path: Path
    frame: int


@dataclass(frozen=True)
class Series:
    """One DICOM series of one modality, its files in stack order (along the slice normal).

    Attributes:
        files: Each file once; multi-frame files in the order of their first slices.
        frames: For a multi-frame series, each slice in stack order as (index into `files`, frame number from 1). Empty
            if every file is one slice.
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    frame_of_reference_uid: str
    description: str
    files: tuple[Path, ...]
    frames: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.files:
            raise DicomError(f"series {self.uid}: no files")
        if not self.modality or "\\" in self.modality or "," in self.modality:
            raise DicomError(
                f"series {self.uid}: mixed or missing modality {self.modality!r}, expected one (CT, PT, ...)"
            )

    @property
    def slice_count(self) -> int:
        """Number of slices."""
        return len(self.frames or self.files)

    @property
    def slices(self) -> tuple[SliceSource, ...]:
        """Where each slice is stored, in stack order."""
        if not self.frames:
            return tuple(SliceSource(path, 0) for path in self.files)
        return tuple(SliceSource(self.files[file], frame) for file, frame in self.frames)

    def every(self, step: int) -> Series:
        """Return the series with every `step`-th slice, beginning with the first."""
        return self.of_slices(self.slices[::step])

    def of_slices(self, slices: Sequence[SliceSource]) -> Series:
        """Return the series with these slices, in this order."""
        files = tuple(dict.fromkeys(source.path for source in slices))
        index_of = {path: index for index, path in enumerate(files)}
        frames = tuple((index_of[source.path], source.frame) for source in slices)
        return replace(self, files=files, frames=frames if any(frame for _, frame in frames) else ())


@dataclass(frozen=True)
class ListedSeries:
    """Base class of series in a listing: the attributes that identify them; empty where unknown."""

    patient_id: str
    study_instance_uid: str
    study_date: str
    series_instance_uid: str
    modality: str
    description: str


@dataclass(frozen=True)
class Study:
    """One DICOM study with its series."""

    uid: str
    patient_id: str
    date: str  # StudyDate, YYYYMMDD; empty if the header has none
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        for series in self.series:
            if series.study_uid != self.uid:
                raise DicomError(f"series {series.uid} belongs to study {series.study_uid}, not to study {self.uid}")


@dataclass(frozen=True)
class SeriesPair:
    """A CT and a PET of the same patient in the same frame of reference; their studies may differ.

    If `registered`, the frames of reference differ or are unknown, and the PET was registered to the CT.
    """

    ct: Series
    pet: Series
    registered: bool = False

    def __post_init__(self) -> None:
        if (self.ct.modality, self.pet.modality) != ("CT", "PT"):
            raise PairingError(f"a pair is a CT and a PT series, found {self.ct.modality} and {self.pet.modality}")
        if self.ct.patient_id != self.pet.patient_id:
            raise PairingError(
                f"CT {self.ct.uid} and PET {self.pet.uid} are of different patients "
                f"({self.ct.patient_id or 'none'}, {self.pet.patient_id or 'none'}); a pair needs series of one patient"
            )
        if self.registered:
            return
        if not self.ct.frame_of_reference_uid or self.ct.frame_of_reference_uid != self.pet.frame_of_reference_uid:
            raise PairingError(
                f"CT {self.ct.uid} and PET {self.pet.uid} have different frames of reference "
                f"({self.ct.frame_of_reference_uid or 'none'}, {self.pet.frame_of_reference_uid or 'none'}); "
                "register them before pairing"
            )
