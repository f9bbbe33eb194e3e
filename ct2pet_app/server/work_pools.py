"""A thread pool for each kind of heavy work, so that no kind takes the threads of the others.

Starlette runs every plain handler in one pool of 40 threads. Slow work in it (inference, conversion, checks of uploads)
takes them all, and then `/info/` or a login waits for a thread. Handlers of slow work are coroutines that pass the work
to a pool of its own: while it waits for a thread it is a coroutine and holds none, the number of waiting requests is
bounded, and a request whose client disconnects leaves the queue, or is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from ct2pet_app.errors import BusyError, ClientDisconnectedError
from lib.errors import OperationCancelledError

Cancelled = Callable[[], bool]
Result = TypeVar("Result")


class WorkPool:
    """Threads for one kind of work.

    Args:
        what: The kind, for messages, such as `inferences`.
        threads: How many requests are worked on at once.
        max_waiting: How many more can wait.
    """

    def __init__(self, what: str, *, threads: int, max_waiting: int) -> None:
        self._what = what
        self._limit = threads + max_waiting
        self._accepted = 0
        self._free = asyncio.Semaphore(threads)

    async def run(self, request: Request, work: Callable[[Cancelled], Result]) -> Result:
        """Return what `work` returns; it runs in a thread of this pool.

        Args:
            request: Whose client is watched.
            work: Called with a function that returns True once the client has disconnected; cheap to call.

        Raises:
            BusyError: As many requests of this kind are under way as the server accepts.
            ClientDisconnectedError: The client disconnected while the request waited for a thread.
        """
        if self._accepted >= self._limit:
            raise BusyError(f"{self._limit} {self._what} are under way; try again in a moment", waiting=self._limit)
        self._accepted += 1
        cancelled = threading.Event()
        watcher = asyncio.create_task(_disconnected(request))
        watcher.add_done_callback(lambda _: cancelled.set())
        try:
            await self._wait_for_thread(watcher)
            try:
                # the semaphore has counted it already: the limiter only keeps it out of the common pool
                return await anyio.to_thread.run_sync(work, cancelled.is_set, limiter=anyio.CapacityLimiter(1))
            finally:
                self._free.release()
        except OperationCancelledError:
            if watcher.done() and not watcher.cancelled() and (refused := watcher.exception()) is not None:
                raise refused from None
            raise
        finally:
            self._accepted -= 1
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watcher

    async def _wait_for_thread(self, watcher: asyncio.Task[None]) -> None:
        entered = asyncio.create_task(self._free.acquire())
        try:
            await asyncio.wait({entered, watcher}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not entered.done():
                entered.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await entered
        if entered.cancelled():
            raise ClientDisconnectedError("the client has disconnected")


async def _disconnected(request: Request) -> None:
    """Return when the client of a request disconnects.

    Raises:
        HTTPException: It sends a body that is not read and is larger than the limit.
    """
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, eq=False)
class WorkPools:
    """The pools of a server; everything else runs in Starlette's common one."""

    inference: WorkPool = field(default_factory=lambda: WorkPool("inferences", threads=8, max_waiting=24))
    previews: WorkPool = field(default_factory=lambda: WorkPool("thumbnails", threads=2, max_waiting=500))
    exports: WorkPool = field(default_factory=lambda: WorkPool("downloads of volumes", threads=4, max_waiting=64))
    uploads: WorkPool = field(default_factory=lambda: WorkPool("uploads", threads=6, max_waiting=48))
    studies: WorkPool = field(default_factory=lambda: WorkPool("scans of the studies", threads=2, max_waiting=16))
