"""Each kind of work has its own threads; what waits holds none, and leaves when its client does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from fastapi import HTTPException, Request

from ct2pet_app.errors import BusyError, ClientDisconnectedError
from ct2pet_app.server.work_pools import Cancelled, WorkPool

WAIT_S = 30.0  # a failure's bound


class Client:
    """The connection of a request: it receives nothing until it is closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.cut = asyncio.Event()
        self._error = error

    async def receive(self) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        await self.cut.wait()
        return {"type": "http.disconnect"}


def run(pool: WorkPool, client: Client, work: Callable[[Cancelled], Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(pool.run(cast(Request, client), work))


class Gate:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, cancelled: Cancelled) -> str:
        self.begun.set()
        assert self.go.wait(WAIT_S)
        return "done"


async def begun(gate: Gate) -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, gate.begun.wait, WAIT_S)


def test_waiting_requests_hold_no_thread_and_more_are_refused() -> None:
    async def script() -> None:
        pool, gate = WorkPool("downloads", threads=1, max_waiting=2), Gate()
        first = run(pool, Client(), gate)
        await begun(gate)
        before = threading.active_count()
        waiting = [run(pool, Client(), lambda _: "later") for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="3 downloads are under way"):
            await pool.run(cast(Request, Client()), lambda _: pytest.fail("ran"))
        assert threading.active_count() == before
        gate.go.set()
        assert await asyncio.gather(first, *waiting) == ["done", "later", "later"]

    asyncio.run(asyncio.wait_for(script(), WAIT_S))


def test_a_client_that_disconnects_leaves_the_queue() -> None:
    async def script() -> None:
        pool, gate, client = WorkPool("downloads", threads=1, max_waiting=1), Gate(), Client()
        first = run(pool, Client(), gate)
        await begun(gate)
        waiting = run(pool, client, lambda _: pytest.fail("ran"))
        await asyncio.sleep(0)
        client.cut.set()
        with pytest.raises(ClientDisconnectedError):
            await waiting
        following = run(pool, Client(), lambda _: "next")  # its place is free again
        gate.go.set()
        assert await asyncio.gather(first, following) == ["done", "next"]

    asyncio.run(asyncio.wait_for(script(), WAIT_S))


def test_work_is_cancelled_when_its_client_disconnects_and_its_thread_is_free_again() -> None:
    async def script() -> None:
        pool, client, started = WorkPool("downloads", threads=1, max_waiting=0), Client(), threading.Event()

        def work(cancelled: Cancelled) -> None:
            started.set()
            pause = threading.Event()
            for _ in range(int(WAIT_S / 0.01)):
                if cancelled():
                    raise ClientDisconnectedError("gone")
                pause.wait(0.01)
            pytest.fail("not cancelled")

        running = run(pool, client, work)
        await asyncio.get_running_loop().run_in_executor(None, started.wait, WAIT_S)
        client.cut.set()
        with pytest.raises(ClientDisconnectedError):
            await running
        assert await pool.run(cast(Request, Client()), lambda _: "next") == "next"

    asyncio.run(asyncio.wait_for(script(), WAIT_S))


def test_an_error_of_the_work_passes_through_and_frees_its_place() -> None:
    async def script() -> None:
        pool = WorkPool("downloads", threads=1, max_waiting=0)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.run(cast(Request, Client()), lambda _: 1 / 0)

    asyncio.run(asyncio.wait_for(script(), WAIT_S))


def test_an_unread_body_is_still_limited() -> None:
    async def script() -> None:
        pool = WorkPool("downloads", threads=1, max_waiting=0)

        def work(cancelled: Cancelled) -> None:
            pause = threading.Event()
            while not cancelled():
                pause.wait(0.01)
            raise ClientDisconnectedError("gone")

        with pytest.raises(HTTPException) as refused:
            await pool.run(cast(Request, Client(HTTPException(413))), work)
        assert refused.value.status_code == 413

    asyncio.run(asyncio.wait_for(script(), WAIT_S))
