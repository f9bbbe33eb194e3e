"""One budget for the bytes of arrays that a process holds at once, reserved before they are allocated.

An operation computes its peak from headers, reserves it once, and releases it at the end. It never waits for more while
it holds a reservation, so operations cannot deadlock. Reservations are granted in the order of the requests, so that
small ones do not starve a large one. An operation above the limit may be allowed while no other runs. Caches count
against the same budget and are emptied, least recently used first, before an operation waits.
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
POLL_INTERVAL_S = 0.25  # how often a waiting operation checks whether it was cancelled


class EvictableCache(Protocol):
    """A cache whose unused entries count against a budget. Its methods never call the budget."""

    def idle_bytes(self, keep: Hashable | None) -> int:
        """Return the bytes of all unused entries, except the entry with the key `keep`."""

    def evict(self, needed_bytes: int, keep: Hashable | None) -> None:
        """Drop unused entries, except `keep`, until `needed_bytes` are free or no entry remains."""


class Reservation:
    """Bytes that an operation may allocate until its `with` block ends."""

    def __init__(self, budget: MemoryBudget, reserved_bytes: int, *, alone: bool = False) -> None:
        self._budget = budget
        self.reserved_bytes = reserved_bytes
        self.alone = alone

    def grow(self, needed_bytes: int, what: str) -> None:
        """Raise the reservation to a total of `needed_bytes`; never waits, so it cannot deadlock.

        Raises:
            MemoryLimitError: More than the budget's limit.
            BusyError: More than is free now.
        """
        self._budget._grow(self, needed_bytes, what)


class MemoryBudget:
    """Shared by all threads of a process.

    Args:
        limit_bytes: Limit of all reservations and caches together; None for no limit.
        alone_bytes: Limit of a reservation made with `alone`, while there is no other; at least `limit_bytes`.
        max_waiting: Maximum number of waiting operations.
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
        """Reserve bytes for the `with` block; wait until they are free.

        Args:
            needed_bytes: The operation's peak, results included.
            what: Name of the operation in messages, such as `the synthesis of 300 slices of 512 x 512`.
            cancelled: Polled while waiting.
            keep: Key of a cache entry that is part of `needed_bytes`: it is not evicted for it.
            alone: Whether it may exceed the limit while nothing else is reserved; for data of the hospital itself.

        Raises:
            MemoryLimitError: More than the limit.
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
        """Reserve bytes if they are free or can be freed by evicting cache entries; the caller holds the lock.

        Args:
            held_bytes: Bytes that the same operation has already reserved.
        """
        if self.limit_bytes is not None:
            free = self.limit_bytes - self._reserved
            if needed_bytes > free and self._reserved > held_bytes:
                return False  # above the limit only while alone; `refuse_too_large` has checked that it is allowed
            self._evict(needed_bytes - free, keep)
        self._reserved += needed_bytes
        return True

    def _evict(self, excess_bytes: int, keep: Hashable | None) -> None:
        """Evict cache entries until their bytes plus `excess_bytes` (usually negative) are at most 0."""
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
