"""Wait for locks and for requests, and cancel work, with checks whether the client has disconnected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ct2pet_app.errors import ClientDisconnectedError
from lib.types import Progress

POLL_INTERVAL_S = 0.25  # of the check whether the client of a waiting request has disconnected
IsDisconnected = Callable[[], bool]


def never() -> bool:
    """Return False: there is no client that could disconnect."""
    return False


@contextmanager
def waited_for(lock: threading.Lock | threading.Semaphore, is_disconnected: IsDisconnected) -> Iterator[None]:
    """Hold a lock inside the `with` block, unless the client disconnects before.

    Raises:
        ClientDisconnectedError: It did.
    """
    while not lock.acquire(timeout=POLL_INTERVAL_S):
        if is_disconnected():
            raise ClientDisconnectedError("the client has disconnected")
    try:
        yield
    finally:
        lock.release()


class ForegroundWork:
    """Counts the requests that compute; background work of the same process waits for them between its steps."""

    def __init__(self) -> None:
        self._requests = 0
        self._changed = threading.Condition()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request inside the `with` block."""
        with self._changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._changed.notify_all()

    def yielding(self, limit_s: float) -> Progress:
        """Return a progress function that waits until no request computes, altogether `limit_s` at most."""
        left_s = limit_s

        def wait(done: int, total: int, what: str) -> None:
            nonlocal left_s
            began = time.monotonic()
            with self._changed:
                if self._requests and left_s > 0:
                    self._changed.wait_for(lambda: not self._requests, timeout=left_s)
                    left_s -= time.monotonic() - began

        return wait


def until_disconnected(is_disconnected: IsDisconnected) -> Progress:
    """Return a progress function that ends the work, by ClientDisconnectedError, once the client has disconnected.

    It is called after every slice, so `is_disconnected` must be cheap.
    """

    def check(done: int, total: int, what: str) -> None:
        if is_disconnected():
            raise ClientDisconnectedError("the client has disconnected")

    return check
