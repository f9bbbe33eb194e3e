"""CTs that were read a moment ago: a client that asks slab by slab waits for one reading, not for one a slab."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

from lib.imaging.volume import Volume

logger = logging.getLogger(__name__)

KEPT_BYTES = 10**9  # three whole-body CTs of 300 slices of 512 x 512 as float32


class RecentVolumes:
    """The volumes that were used last, up to a number of bytes; those given out are read-only."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._volumes: OrderedDict[Hashable, Volume] = OrderedDict()
        self._changing = threading.Lock()
        self._reading: dict[Hashable, threading.Lock] = {}

    def volume(self, key: Hashable, read: Callable[[], Volume]) -> Volume:
        """Return the volume of a key, read if it is not kept; who asks for it meanwhile waits for the same reading.

        Args:
            key: Another one as soon as the files are others.
            read: Reads the pixels; its errors pass through, and nothing is kept.
        """
        with self._changing:
            turn = self._reading.setdefault(key, threading.Lock())
        with turn:
            kept = self._kept(key)
            if kept is not None:
                return kept
            try:
                volume = read()
                volume.array.flags.writeable = False
                self._keep(key, volume)
                return volume
            finally:
                with self._changing:
                    self._reading.pop(key, None)

    def _kept(self, key: Hashable) -> Volume | None:
        with self._changing:
            if key not in self._volumes:
                return None
            self._reading.pop(key, None)
            self._volumes.move_to_end(key)
            return self._volumes[key]

    def _keep(self, key: Hashable, volume: Volume) -> None:
        with self._changing:
            self._volumes[key] = volume
            while len(self._volumes) > 1 and self._bytes() > self._limit_bytes:
                self._volumes.popitem(last=False)
            if self._bytes() > self._limit_bytes:
                self._volumes.clear()

    def _bytes(self) -> int:
        return sum(volume.array.nbytes for volume in self._volumes.values())


def state_of(files: Iterable[Path]) -> Hashable:
    """Return what is another value as soon as one of the files is another, or gone."""
    return tuple(_state(path) for path in files)


def _state(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:
        return str(path)
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
