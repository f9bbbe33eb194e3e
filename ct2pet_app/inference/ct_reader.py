"""Reading of the CT of a request: whole, or only the slices that a slab needs."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from ct2pet_app.datastore.ct_source import OpenedCT
from ct2pet_app.inference.volume_cache import VolumeCache
from ct2pet_app.server.concurrency import IsDisconnected, until_disconnected
from lib.errors import InputError
from lib.imaging.volume import Volume
from lib.networks.cascade import NetworkConfig
from lib.synthesis.slabs import source_slices

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CTReader:
    """Reads the CT of one request.

    Attributes:
        key: Of the CT and the state of its files; None for an upload, which is read once.
        recent: Where a CT that can be requested again is cached.
    """

    key: Hashable | None
    opened: OpenedCT
    recent: VolumeCache
    is_disconnected: IsDisconnected

    def volume(self, slices: slice | None, network: NetworkConfig, *, whole: bool) -> AbstractContextManager[Volume]:
        """Return a context that provides the CT for the PET of a slab; of all slices where `slices` is None.

        Args:
            slices: The slab.
            network: Of the model, whose context slices are read, too.
            whole: Whether the whole CT is needed for other reasons.

        Raises:
            InputError: The CT cannot be read.
            ClientDisconnectedError: The client has disconnected.
        """
        slab = None if whole else self._read_slab(slices, network)
        return self._whole() if slab is None else nullcontext(slab)

    def _whole(self) -> AbstractContextManager[Volume]:
        read = partial(self.opened.read, until_disconnected(self.is_disconnected))
        if self.key is None:
            return nullcontext(read())
        return self.recent.volume(self.key, read, is_disconnected=self.is_disconnected)

    def _read_slab(self, slices: slice | None, network: NetworkConfig) -> Volume | None:
        """Return the CT with only those slices read that the PET of a slab depends on; None to read it whole.

        A client that requests slab after slab receives the first one without waiting for all slices; with the second
        one, the CT is read whole and cached.
        """
        geometry = self.opened.geometry
        if self.key is None or slices is None or geometry is None or self.opened.read_slab is None:
            return None
        needed = source_slices(network, geometry, slices)
        if needed.stop - needed.start == geometry.shape[0] or not self.recent.is_first_slab(self.key):
            return None
        try:
            return self.opened.read_slab(needed, until_disconnected(self.is_disconnected))
        except InputError as error:  # such as a slab of air: all slices decide, and their error says more
            logger.debug("the CT is read whole: %s", error)
            return None
