"""A cache of CT volumes that were read recently: a client that requests slab after slab needs one read only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ct2pet_app.server.concurrency import IsDisconnected, never, waited_for
from lib.imaging.volume import Volume

MAX_SLABS = 64
KEPT_BYTES = 10**9  # three whole-body CTs of 300 slices of 512 x 512 as float32


@dataclass
class _Entry:
    volume: Volume
    users: int = 0


class VolumeCache:
    """The most recently used volumes, up to a number of bytes; they are read-only.

    An unused entry counts against the server's memory budget, which evicts it when others need the memory. A used entry
    is part of its users' reservations. Implements `EvictableCache` of `lib/memory.py`.
    """

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._changing = threading.Lock()
        self._reading: dict[Hashable, _Reading] = {}
        self._slab_read: list[Hashable] = []  # the latest volumes of which a slab was read alone

    def is_first_slab(self, key: Hashable) -> bool:
        """Return whether a slab of this volume may be read alone: the next one is read with the whole volume."""
        with self._changing:
            if key in self._entries or key in self._reading:
                return False
            is_first = key not in self._slab_read
            self._slab_read = [other for other in self._slab_read if other != key][-MAX_SLABS:]
            if is_first:
                self._slab_read.append(key)
            return is_first

    @contextmanager
    def volume(
        self, key: Hashable, read: Callable[[], Volume], *, is_disconnected: IsDisconnected = never
    ) -> Iterator[Volume]:
        """Yield the volume of a key, read if it is not cached; concurrent requests wait for the same read.

        Args:
            key: Changes when the files change.
            read: Reads the pixels; its errors are raised, and nothing is cached.
            is_disconnected: Polled while another request reads.

        Raises:
            ClientDisconnectedError: The client disconnected while another request was reading.
        """
        entry = self._used(key, read, is_disconnected)
        try:
            yield entry.volume
        finally:
            with self._changing:
                entry.users -= 1
                self._drop_beyond_limit()

    def idle_bytes(self, keep: Hashable | None) -> int:
        """Return the bytes of all unused volumes, except the one of the key `keep`."""
        with self._changing:
            return sum(_size(self._entries[key]) for key in self._idle(keep))

    def evict(self, needed_bytes: int, keep: Hashable | None) -> None:
        """Drop unused volumes except `keep`, the oldest first, until `needed_bytes` are free."""
        with self._changing:
            for key in self._idle(keep):
                if needed_bytes <= 0:
                    return
                needed_bytes -= _size(self._entries.pop(key))

    def _used(self, key: Hashable, read: Callable[[], Volume], is_disconnected: IsDisconnected) -> _Entry:
        with self._changing:
            reading = self._reading.setdefault(key, _Reading())
            reading.users += 1
        try:
            with waited_for(reading.lock, is_disconnected):
                with self._changing:
                    entry = self._entries.get(key)
                    if entry is not None:
                        entry.users += 1
                        self._entries.move_to_end(key)
                        return entry
                volume = read()
                volume.array.flags.writeable = False
                with self._changing:
                    entry = self._entries[key] = _Entry(volume, users=1)
                    return entry
        finally:
            with self._changing:
                reading.users -= 1
                if not reading.users:
                    del self._reading[key]

    def _idle(self, keep: Hashable | None) -> list[Hashable]:
        return [key for key, entry in self._entries.items() if not entry.users and (keep is None or key != keep)]

    def _drop_beyond_limit(self) -> None:
        """Drop the least recently used volumes beyond the limit; a volume larger than the limit is not kept."""
        idle = self._idle(None)
        total = sum(_size(self._entries[key]) for key in idle)
        for key in idle:
            if total > self._limit_bytes:
                total -= _size(self._entries.pop(key))


class _Reading:
    """A read in progress that other requests can wait for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


def _size(entry: _Entry) -> int:
    return int(entry.volume.array.nbytes)


def state_of(files: Iterable[Path]) -> Hashable:
    """Return a value that changes when one of the files is changed, replaced or removed."""
    return tuple(_state(path) for path in files)


def _state(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:
        return str(path)
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
