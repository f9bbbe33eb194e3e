"""Small pictures of CTs: the middle slice, made when a page asks for it and kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from PIL import Image

from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.datastore.study_index import Studies
from ct2pet_app.inference.volume_cache import state_of
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.viewer.voxels import Stored, Voxels
from lib.imaging.geometry import Geometry
from lib.types import Series, SliceSource

SIZE_PX = 96
MAX_KEPT = 4000  # of some 4 kB each
WINDOW_HU = (-1000.0, 400.0)  # lung and soft tissue in one picture


class Thumbnails:
    """Makes thumbnails, and keeps those of the CTs that were shown last.

    Args:
        voxels: Reads the slices.
    """

    def __init__(self, voxels: Voxels) -> None:
        self._voxels = voxels
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._changing = threading.Lock()

    def png(self, source: CTSource, studies: Studies, is_disconnected: IsDisconnected) -> bytes:
        """Return the thumbnail of a CT as PNG. Of a DICOM series, one slice is read, and fetched if it is in a PACS.

        Args:
            source: The CT.
            studies: Where its files are, unless it is an upload.
            is_disconnected: Whether the client has disconnected.

        Raises:
            InputError: The CT cannot be read.
            RemoteError: The PACS does not send the slice.
        """
        middle = None if source.ct is None else source.ct.slices[source.ct.slice_count // 2]
        if middle is None:
            state = state_of(source.files[:1] + source.files[-1:])
        else:  # an instance of a PACS never changes, and its file's name is its UID
            state = state_of([middle.path]) if studies.is_local else middle
        key = (source.name, state)
        with self._changing:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        if source.ct is not None and middle is not None and source.geometry is not None:
            made = self._of_series(source.ct, middle, source.geometry, studies, is_disconnected)
        else:
            made = self._of_upload(source, is_disconnected)
        with self._changing:
            self._kept[key] = made
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return made

    def _of_series(
        self, ct: Series, middle: SliceSource, geometry: Geometry, studies: Studies, is_disconnected: IsDisconnected
    ) -> bytes:
        with studies.local_slice(ct, middle, cancelled=is_disconnected) as local:
            return _png(self._voxels.single_slice(ct, local, geometry, is_disconnected), geometry)

    def _of_upload(self, source: CTSource, is_disconnected: IsDisconnected) -> bytes:
        geometry = self._voxels.geometry(source, is_disconnected)
        middle = geometry.shape[0] // 2
        return _png(self._voxels.slab(source, slice(middle, middle + 1), is_disconnected)[0], geometry)


def _png(slice_hu: Stored, geometry: Geometry) -> bytes:
    """Return a slice (R, C) of a grid, HU, as a grey PNG that fits into a square."""
    low, high = WINDOW_HU
    grey = np.clip((slice_hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    row_mm, column_mm = geometry.spacing_mm[1:]
    rows, columns = grey.shape[0] * row_mm / column_mm, grey.shape[1]
    scale = SIZE_PX / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    file = io.BytesIO()
    Image.fromarray(grey).resize(size, Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()
