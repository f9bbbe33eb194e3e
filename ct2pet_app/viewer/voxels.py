"""Voxels of a CT as a page reads them: slices of 16-bit integers, and the grid they are on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct2pet_app.datastore.ct_source import CTSource, OpenedCT
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.volume_cache import VolumeCache, state_of
from ct2pet_app.server.concurrency import IsDisconnected, until_disconnected
from lib.dicom.read.single_slice import read_ct_slice
from lib.dicom.read.volume import read_ct
from lib.imaging.files.memory_estimate import series_read_bytes
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume
from lib.memory import MemoryBudget
from lib.types import FloatArray, Series, SliceSource

Stored = NDArray[np.int16]
MIN_SLICES = 2  # that a stack has


class Voxels:
    """Reads slices of CTs. Of a DICOM series only those slices are read; an upload is read once and kept for a while.

    Args:
        budget: Memory that all requests of the server share.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._uploads = VolumeCache()
        budget.add_cache(self._uploads)

    def geometry(self, source: CTSource, is_disconnected: IsDisconnected) -> Geometry:
        """Return the grid of a CT.

        Raises:
            InputError: The CT cannot be read.
        """
        with source.open(is_disconnected) as opened:
            if opened.geometry is not None:
                return opened.geometry
            return self._slab_of_upload(source, opened, slice(None), is_disconnected).geometry

    def slab(self, source: CTSource, slices: slice, is_disconnected: IsDisconnected) -> Stored:
        """Return slices of a CT in HU, rounded, shape (slices, R, C), in the order of the whole CT.

        Raises:
            RequestError: There are no such slices.
            InputError: The CT cannot be read.
        """
        with source.open(is_disconnected) as opened:
            start, stop, _ = slices.indices(opened.shape[0])
            if start >= stop:
                raise RequestError(f"slices: the CT has {opened.shape[0]} slices; give A:B, for example 0:16")
            if opened.series is None:
                volume = self._slab_of_upload(source, opened, slice(start, stop), is_disconnected)
                return to_int16(volume.array)
            first = max(0, min(start, opened.shape[0] - MIN_SLICES))
            last = max(stop, first + MIN_SLICES)
            volume = self._slab_of_series(opened.series, opened.shape, slice(first, last), is_disconnected)
            return to_int16(volume.array)[start - first : stop - first]

    def single_slice(
        self, ct: Series, source: SliceSource, geometry: Geometry, is_disconnected: IsDisconnected
    ) -> Stored:
        """Return one slice of a DICOM series in HU, rounded, shape (R, C).

        Args:
            ct: The series.
            source: The slice, whose file has to be on this machine; no other file is read.
            geometry: The grid of the series, by its headers.
            is_disconnected: Whether the client has disconnected.

        Raises:
            InputError: The file is damaged, or not such a slice.
        """
        _, rows, columns = geometry.shape
        needed = series_read_bytes((1, rows, columns))
        with self._budget.reserve(needed, "reading one slice", cancelled=is_disconnected, alone=True):
            return to_int16(read_ct_slice(ct, source, shape=(rows, columns)))

    def _slab_of_series(
        self, series: Series, shape: tuple[int, int, int], slices: slice, is_disconnected: IsDisconnected
    ) -> Volume:
        sources = series.slices[slices]
        needed = series_read_bytes((len(sources), *shape[1:]))
        what = f"reading {len(sources)} slices"
        with self._budget.reserve(needed, what, cancelled=is_disconnected, alone=True):
            return read_ct(series.of_slices(sources), progress=until_disconnected(is_disconnected))

    def _slab_of_upload(
        self, source: CTSource, opened: OpenedCT, slices: slice, is_disconnected: IsDisconnected
    ) -> Volume:
        key: Hashable = (source.name, state_of(source.files))
        what = f"reading {opened.shape[0]} slices"

        def read() -> Volume:
            """Return the whole CT."""
            return opened.read(until_disconnected(is_disconnected))

        with (
            self._budget.reserve(opened.read_bytes, what, cancelled=is_disconnected, keep=key),
            self._uploads.volume(key, read, is_disconnected=is_disconnected) as volume,
        ):
            return volume.slab(slices)


def to_int16(array_hu: FloatArray) -> Stored:
    """Return HU rounded to whole numbers, within the range of 16 bits."""
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(array_hu), limits.min, limits.max).astype(np.int16)


def describe_grid(geometry: Geometry) -> dict[str, Any]:
    """Return a grid as plain values: shape (slices, rows, columns), spacing in mm, and the affine in LPS mm."""
    return {
        "shape": list(geometry.shape),
        "spacing_mm": list(geometry.spacing_mm),
        "affine_lps": geometry.affine.tolist(),
    }
