"""One budget for the bytes of arrays that a process holds at once, reserved before they are allocated.

An operation computes what it needs from headers, reserves that once, works, and gives it back. It never waits for more
while it holds some, so operations cannot block each other for ever. Reservations are granted in the order in which they
were requested: a large one is not starved by small ones. What is larger than the limit may be allowed while it is
alone. Caches count against the same budget and are emptied, least recently used first, before an operation waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Protocol

from lib.errors import BusyError, MemoryLimitError, OperationCancelledError
from lib.types import never_cancelled

MAX_WAITING = 64  # operations that wait for memory at once; each holds a thread
POLL_INTERVAL_S = 0.25  # how often a waiting operation looks whether it was cancelled


class EvictableCache(Protocol):
    """A cache whose entries that nobody uses count against a budget. Its methods never call the budget."""

    def idle_bytes(self, keep: Hashable | None) -> int:
        """Return the bytes of all entries that nobody uses, except the entry of the key `keep`."""

    def evict(self, needed_bytes: int, keep: Hashable | None) -> None:
        """Drop entries that nobody uses, except `keep`, until so many bytes are free or none is left."""


class Reservation:
    """Bytes that an operation may allocate until its `with` block ends."""

    def __init__(self, budget: MemoryBudget, reserved_bytes: int, *, alone: bool = False) -> None:
        self._budget = budget
        self.reserved_bytes = reserved_bytes
        self.alone = alone

    def grow(self, needed_bytes: int, what: str) -> None:
        """Raise the reservation to `needed_bytes` in all; never waits, so it cannot deadlock.

        Raises:
            MemoryLimitError: More than the budget's limit.
            BusyError: More than is free now.
        """
        self._budget._grow(self, needed_bytes, what)


class MemoryBudget:
    """Shared by all threads of a process.

    Args:
        limit_bytes: Of all reservations and caches together; None for no limit.
        alone_bytes: Limit of one reservation that says it may be alone, while there is no other; not below the limit.
        max_waiting: How many operations may wait at once.
        after_release: Called after each operation, before its bytes count as free.
    """

    def __init__(
        self,
        limit_bytes: int | None,
        *,
        alone_bytes: int = 0,
        max_waiting: int = MAX_WAITING,
        after_release: Callable[[], None] = lambda: None,
    ) -> None:
        self._after_release = after_release
        self.limit_bytes = limit_bytes
        self._alone_bytes = max(alone_bytes, limit_bytes or 0)
        self._max_waiting = max_waiting
        self._reserved = 0
        self._caches: list[EvictableCache] = []
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def reserved_bytes(self) -> int:
        """Bytes that are reserved now, without caches."""
        with self._changed:
            return self._reserved

    @property
    def waiting(self) -> int:
        """Operations that wait now."""
        with self._changed:
            return len(self._waiting)

    def add_cache(self, cache: EvictableCache) -> None:
        """Count a cache's idle entries against the budget."""
        with self._changed:
            self._caches.append(cache)

    @contextmanager
    def reserve(
        self,
        needed_bytes: int,
        what: str,
        *,
        cancelled: Callable[[], bool] = never_cancelled,
        keep: Hashable | None = None,
        alone: bool = False,
    ) -> Iterator[Reservation]:
        """Hold so many bytes inside the `with` block, and wait until they are free.

        Args:
            needed_bytes: The operation's peak, results included.
            what: How messages call the operation, such as `the synthesis of 300 slices of 512 x 512`.
            cancelled: Polled while waiting.
            keep: Key of a cache entry that is part of `needed_bytes`: it is not evicted for it.
            alone: Whether it may pass the limit while nothing else is reserved; for what the hospital itself keeps.

        Raises:
            MemoryLimitError: More than will ever be free.
            BusyError: Too many operations wait already.
            OperationCancelledError: `cancelled` returned True.
        """
        self.refuse_too_large(needed_bytes, what, alone=alone)
        self._acquire(needed_bytes, cancelled, keep)
        reservation = Reservation(self, needed_bytes, alone=alone)
        try:
            yield reservation
        finally:
            self._after_release()
            with self._changed:
                self._reserved -= reservation.reserved_bytes
                self._changed.notify_all()

    def refuse_too_large(self, needed_bytes: int, what: str, *, alone: bool = False) -> None:
        """Return when so many bytes can be free at some time; raise MemoryLimitError where they cannot."""
        limit_bytes = self._alone_bytes if alone else self.limit_bytes
        if self.limit_bytes is not None and limit_bytes is not None and needed_bytes > limit_bytes:
            raise MemoryLimitError(
                f"{what} needs {needed_bytes / 1e6:,.0f} MB of memory, allowed are {limit_bytes / 1e6:,.0f} MB: "
                "crop the volume or request fewer slices",
                needed_mb=round(needed_bytes / 1e6),
                limit_mb=round(limit_bytes / 1e6),
            )

    def _acquire(self, needed_bytes: int, cancelled: Callable[[], bool], keep: Hashable | None) -> None:
        ticket = object()
        with self._changed:
            if not self._waiting and self._take(needed_bytes, keep):
                return
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(
                    f"{self._max_waiting} operations wait for memory; try again in a moment", waiting=self._max_waiting
                )
            self._waiting.append(ticket)
        try:
            while not cancelled():  # called without the lock: it may take a while
                with self._changed:
                    if self._waiting[0] is ticket and self._take(needed_bytes, keep):
                        return
                    self._changed.wait(POLL_INTERVAL_S)
            raise OperationCancelledError("cancelled while it waited for memory")
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()  # the next one may fit

    def _take(self, needed_bytes: int, keep: Hashable | None, *, held_bytes: int = 0) -> bool:
        """Reserve bytes where they are free or caches can make them free; the lock is held.

        Args:
            held_bytes: What the same operation holds already.
        """
        if self.limit_bytes is not None:
            free = self.limit_bytes - self._reserved
            if needed_bytes > free and self._reserved > held_bytes:
                return False  # beyond the limit only alone; that this is allowed was checked before
            self._evict(needed_bytes - free, keep)
        self._reserved += needed_bytes
        return True

    def _evict(self, excess_bytes: int, keep: Hashable | None) -> None:
        """Empty caches until what they hold, added to `excess_bytes` (usually negative), is at most 0."""
        for cache in self._caches:
            excess_bytes += cache.idle_bytes(keep)
        for cache in self._caches:
            if excess_bytes > 0:
                before = cache.idle_bytes(keep)
                cache.evict(excess_bytes, keep)
                excess_bytes -= before - cache.idle_bytes(keep)

    def _grow(self, reservation: Reservation, needed_bytes: int, what: str) -> None:
        self.refuse_too_large(needed_bytes, what, alone=reservation.alone)
        with self._changed:
            more = needed_bytes - reservation.reserved_bytes
            if more <= 0:
                return
            if not self._take(more, None, held_bytes=reservation.reserved_bytes):
                raise BusyError(
                    f"{what} needs {needed_bytes / 1e6:,.0f} MB of memory, which other requests hold; try again later",
                    code="memory_in_use",
                    needed_mb=round(needed_bytes / 1e6),
                )
            reservation.reserved_bytes = needed_bytes
