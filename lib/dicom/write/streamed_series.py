"""A synthetic PET series that is written while its pixels are computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lib.dicom.write.pet_series import PlannedSeries
from lib.imaging.volume import Volume


@dataclass(frozen=True, eq=False)
class StreamedSeries:
    """A synthetic PET series whose pixels arrive slab by slab; its files can be read once.

    Attributes:
        planned: Its UIDs and headers.
        slabs: The pixels, SUVbw, on slabs of the CT's grid.
        slice_count: The number of slices of all slabs.
    """

    planned: PlannedSeries
    slabs: Iterable[Volume]
    slice_count: int

    @property
    def uid(self) -> str:
        """The SeriesInstanceUID."""
        return self.planned.uid

    def __len__(self) -> int:
        return self.slice_count

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield each instance's file name and file as its slab arrives; see `PlannedSeries.files`."""
        return self.planned.files(self.slabs)
