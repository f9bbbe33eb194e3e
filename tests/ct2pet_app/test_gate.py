"""Who may ask through a browser, and how much may be sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import HTTPException

from ct2pet_app.server.request_guard import Gate

HERE, ELSEWHERE = ("127.0.0.1", 8000), ("192.0.2.7", 8000)


async def echo_size(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"detail": size}).encode()})


def ask(
    headers: dict[str, str], *chunks: bytes, server: tuple[str, int] = HERE, origins: tuple[str, ...] = ()
) -> tuple[int, Any]:
    """Return status and detail of one request through a gate of 10 bytes."""
    waiting = [*chunks] or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "server": server}
    asyncio.run(Gate(echo_size, origins=origins, limit_bytes=10)(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_computer_may_ask_itself(host: str) -> None:
    assert ask({"host": host}) == (200, 0)


def test_a_page_of_the_server_itself_may_ask() -> None:
    assert ask({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"})[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
def test_a_page_of_another_origin_may_not(origin: str) -> None:
    status, words = ask({"host": "127.0.0.1:8000", "origin": origin})
    assert status == 403
    assert f"web pages of {origin} may not ask this server" in words


def test_a_page_the_owner_allows_may() -> None:
    allowed = ("https://viewer.example",)
    assert ask({"host": "127.0.0.1:8000", "origin": allowed[0]}, origins=allowed)[0] == 200


def test_a_name_that_was_rebound_to_this_computer_may_not() -> None:
    status, words = ask({"host": "evil.example:8000", "origin": "http://evil.example:8000"})
    assert (status, words) == (
        403,
        "this server is not evil.example:8000; ask 127.0.0.1, or have that name allowed with --conf origins",
    )


def test_a_server_on_the_network_answers_to_its_name() -> None:
    assert ask({"host": "petct.clinic.example:8000"}, server=ELSEWHERE)[0] == 200


def test_a_body_at_the_limit_passes() -> None:
    assert ask({"host": "localhost", "content-length": "10"}, b"12345", b"67890") == (200, 10)


def test_a_body_that_announces_too_much_is_refused_unread() -> None:
    status, words = ask({"host": "localhost", "content-length": "11"})
    assert status == 413
    assert "larger --conf max_upload_mb" in words


def test_a_body_that_does_not_announce_ends_at_the_limit() -> None:
    with pytest.raises(HTTPException) as refused:
        ask({"host": "localhost"}, b"12345", b"67890", b"1")
    assert refused.value.status_code == 413
