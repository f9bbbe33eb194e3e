"""The words every layer uses: Series, Study, SeriesPair, SlicePair, and how progress is told."""

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
    """Replace NaN and infinity, which JSON does not have, by None."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


class NamedNumbers:
    """Base of dataclasses that hold numbers and nothing else."""

    def as_json(self) -> dict[str, float | None]:
        """Return the numbers by name; None where not finite."""
        return finite_or_none(vars(self))


class Progress(Protocol):
    """What long work calls as it goes on: how much is done, of how much, and what is being done."""

    def __call__(self, done: int, total: int, what: str) -> None: ...


def no_progress(done: int, total: int, what: str) -> None:
    """Tell nobody."""


def partial_progress(progress: Progress, place: int, places: int, title: str) -> Progress:
    """Return a progress for one of several equal parts of a work, the one at `place`, counted from 0."""

    def tell(done: int, total: int, what: str) -> None:
        """Pass on, as a part of the whole."""
        progress(place * total + done, places * total, f"{title}: {what}")

    return tell


def never_cancelled() -> bool:
    """Return False: the work is wanted to its end."""
    return False


class LocalFiles(Protocol):
    """Gives a context in which the files of series lie where `Series.files` says: a PACS has to send them first."""

    def __call__(
        self, *series: Series, cancelled: Callable[[], bool] = never_cancelled
    ) -> AbstractContextManager[None]:
        """Return the context.

        Args:
            series: What is needed inside it.
            cancelled: Whether nobody needs it any more; polled by the calling thread while it waits. Entering the
                context then raises FetchCancelledError.
        """
        ...


def already_local(*_: Series, cancelled: Callable[[], bool] = never_cancelled) -> AbstractContextManager[None]:  # noqa: ARG001
    """Return a context that does nothing: the files of a folder are there already."""
    return nullcontext()


class SliceSource(NamedTuple):
    """Where one slice is stored: its file, and which frame of it, counted from 1; 0 where the file is the slice."""

    path: Path
    frame: int


@dataclass(frozen=True)
class Series:
    """One DICOM series of one modality, its files in stack order (along the slice normal).

    Attributes:
        files: Each file once. Files of several frames stand in the order of their first slices.
        frames: Of a multi-frame series, each slice in stack order as (index into `files`, frame number from 1). Empty
            where every file is one slice.
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
        """How many slices the series holds."""
        return len(self.frames or self.files)

    @property
    def slices(self) -> tuple[SliceSource, ...]:
        """Where each slice is stored, in stack order."""
        if not self.frames:
            return tuple(SliceSource(path, 0) for path in self.files)
        return tuple(SliceSource(self.files[file], frame) for file, frame in self.frames)

    def every(self, step: int) -> Series:
        """Return the series with only every `step`-th slice; the first one stays."""
        return self.of_slices(self.slices[::step])

    def of_slices(self, slices: Sequence[SliceSource]) -> Series:
        """Return the series with these slices, in this order."""
        files = tuple(dict.fromkeys(source.path for source in slices))
        place = {path: index for index, path in enumerate(files)}
        frames = tuple((place[source.path], source.frame) for source in slices)
        return replace(self, files=files, frames=frames if any(frame for _, frame in frames) else ())


@dataclass(frozen=True)
class Study:
    """One DICOM study with its series."""

    uid: str
    patient_id: str
    date: str  # StudyDate, YYYYMMDD, empty where the header has none
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        for series in self.series:
            if series.study_uid != self.uid:
                raise DicomError(f"series {series.uid} belongs to study {series.study_uid}, not to study {self.uid}")


@dataclass(frozen=True)
class SeriesPair:
    """A CT and the PET of the same patient, drawn in the same frame of reference; their studies may differ.

    `registered` says that the frames differ, or are not known, and the PET was laid onto the CT by its image.
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
                f"({self.ct.patient_id or 'none'}, {self.pet.patient_id or 'none'}); only series of one are paired"
            )
        if self.registered:
            return
        if not self.ct.frame_of_reference_uid or self.ct.frame_of_reference_uid != self.pet.frame_of_reference_uid:
            raise PairingError(
                f"CT {self.ct.uid} and PET {self.pet.uid} have different frames of reference "
                f"({self.ct.frame_of_reference_uid or 'none'}, {self.pet.frame_of_reference_uid or 'none'}); "
                "register them and store the result before pairing"
            )


@dataclass(frozen=True, eq=False)
class SlicePair:
    """One training sample.

    Attributes:
        ct: CT slice with its neighbours as channels, (channels, R, C), unit range of the recipe.
        pet: PET slice, (1, R, C), unit range of the recipe.
        mask: Inside the body and measured by the PET scanner, (1, R, C).
        patient_id: Whose.
        slice_index: Index of the slice in its prepared volume.
    """

    ct: FloatArray
    pet: FloatArray
    mask: BoolArray
    patient_id: str
    slice_index: int

    def __post_init__(self) -> None:
        if self.ct.ndim != 3 or self.pet.ndim != 3 or self.mask.ndim != 3:
            raise PairingError("a slice pair holds arrays of (channels, rows, columns)")
        if not self.ct.shape[1:] == self.pet.shape[1:] == self.mask.shape[1:]:
            raise PairingError(
                f"slice {self.slice_index} of patient {self.patient_id}: CT {self.ct.shape[1:]}, "
                f"PET {self.pet.shape[1:]} and mask {self.mask.shape[1:]} must have equal rows and columns"
            )
