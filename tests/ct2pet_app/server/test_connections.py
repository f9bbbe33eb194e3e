"""Connections that send no request are closed; others are left alone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from ct2pet_app.server.middleware import connections


class Loop:
    """Collects what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def call_later(self, after_s: float, call: Any, *arguments: Any) -> None:
        assert after_s == connections.HEAD_TIMEOUT_S
        self.calls.append((call, arguments))

    def next(self) -> None:
        call, arguments = self.calls.pop(0)
        call(*arguments)


class Transport:
    closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def watched(cycle: Any) -> Any:
    protocol = SimpleNamespace(loop=Loop(), transport=Transport(), cycle=cycle)
    protocol.loop.call_later(connections.HEAD_TIMEOUT_S, connections._watch, protocol, cycle)
    return protocol


def request(*, complete: bool) -> Any:
    return SimpleNamespace(response_complete=complete)


def test_a_connection_that_sends_no_request_is_closed() -> None:
    protocol = watched(None)
    protocol.loop.next()
    assert protocol.transport.closed and not protocol.loop.calls


def test_a_long_request_is_left_alone_and_the_silence_after_it_is_not() -> None:
    protocol = watched(None)
    protocol.cycle = request(complete=False)
    for _ in range(100):
        protocol.loop.next()
    assert not protocol.transport.closed
    protocol.cycle.response_complete = True
    protocol.loop.next()
    assert not protocol.transport.closed  # it may have ended a moment ago
    protocol.loop.next()
    assert protocol.transport.closed


def test_a_connection_with_one_request_after_another_is_left_alone() -> None:
    protocol = watched(None)
    for _ in range(10):
        protocol.cycle = request(complete=True)
        protocol.loop.next()
    assert not protocol.transport.closed


def test_uvicorns_own_connections_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server, a connection that sends half a head: closed by the server."""
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connections.H11Protocol, "connection_made", connections.H11Protocol.connection_made)
    monkeypatch.delattr(connections.H11Protocol, connections.MARK, raising=False)
    connections.close_idle_connections()

    async def received() -> bytes:
        config = uvicorn.Config(app=_unused, port=0, log_level="error", lifespan="off", http="h11")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        found = await asyncio.wait_for(reader.read(), timeout=60)
        writer.close()
        server.should_exit = True
        await task
        return found

    assert asyncio.run(received()) == b""


async def _unused(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("no request was complete")
