"""Small pictures of CTs: the middle slice, made when a page asks for it and kept in memory."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from PIL import Image

from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.errors import NotFoundError
from ct2pet_app.inference.volume_cache import state_of
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.viewer.voxels import Stored, Voxels

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

    def png(self, source: CTSource, *, is_local: bool, is_disconnected: IsDisconnected) -> bytes:
        """Return the thumbnail of a CT as PNG.

        Args:
            source: The CT.
            is_local: Whether its files are on this machine; a whole series is not fetched for a thumbnail.
            is_disconnected: Whether the client has disconnected.

        Raises:
            NotFoundError: There is none, because the files are in a PACS.
            InputError: The CT cannot be read.
        """
        key = (source.name, state_of(source.files[:1] + source.files[-1:]))
        with self._changing:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        if not is_local:
            raise NotFoundError("the files of this CT are in a PACS and are not fetched for a thumbnail")
        geometry = self._voxels.geometry(source, is_disconnected)
        middle = geometry.shape[0] // 2
        slab = self._voxels.slab(source, slice(middle, middle + 1), is_disconnected)
        row_mm, column_mm = geometry.spacing_mm[1:]
        made = _png(slab[0], aspect=row_mm / column_mm)
        with self._changing:
            self._kept[key] = made
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return made


def _png(slice_hu: Stored, *, aspect: float) -> bytes:
    """Return a slice (R, C) as a grey PNG that fits into a square.

    Args:
        slice_hu: HU.
        aspect: Height of a pixel divided by its width.
    """
    low, high = WINDOW_HU
    grey = np.clip((slice_hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    rows, columns = grey.shape[0] * aspect, grey.shape[1]
    scale = SIZE_PX / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    file = io.BytesIO()
    Image.fromarray(grey).resize(size, Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()
