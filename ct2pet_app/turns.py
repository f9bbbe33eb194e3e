"""Whose turn it is: how many inferences are under way, how many of them hold a volume, and who has gone away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ct2pet_app.errors import BusyError, ClientGoneError
from lib.types import Progress

MOST_WAITING = 8  # requests under way at once, of all models; the server answers other questions with other threads
MOST_HELD = 2  # of them hold a volume, 1.5 GB for a whole body: one is read or written while another computes
ASK_EVERY_S = 1.0  # whether the client still waits
Gone = Callable[[], bool]


def never() -> bool:
    """Return False: nobody waits who could go away."""
    return False


class Turns:
    """Shared by all inferences of a server."""

    def __init__(self) -> None:
        self._under_way = threading.BoundedSemaphore(MOST_WAITING)
        self._held = threading.BoundedSemaphore(MOST_HELD)

    @contextmanager
    def taken(self, gone: Gone = never) -> Iterator[None]:
        """Wait until a volume may be held; it may inside the `with`.

        Raises:
            BusyError: As many requests as the server takes are under way; asked without waiting.
            ClientGoneError: Nobody waits for the answer any more.
        """
        if not self._under_way.acquire(blocking=False):
            raise BusyError(f"{MOST_WAITING} inferences are under way; ask again in a moment")
        try:
            with waited_for(self._held, gone):
                yield
        finally:
            self._under_way.release()


@contextmanager
def waited_for(lock: threading.Lock | threading.Semaphore, gone: Gone) -> Iterator[None]:
    """Hold a lock inside the `with`, unless the client goes away before.

    Raises:
        ClientGoneError: It did.
    """
    while not lock.acquire(timeout=ASK_EVERY_S):
        if gone():
            raise ClientGoneError("the client has gone away")
    try:
        yield
    finally:
        lock.release()


def until_gone(gone: Gone) -> Progress:
    """Return a progress that ends the work, by ClientGoneError, when nobody waits for it any more."""
    next_at = time.monotonic() + ASK_EVERY_S

    def tell(done: int, total: int, what: str) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + ASK_EVERY_S
            if gone():
                raise ClientGoneError("the client has gone away")

    return tell
