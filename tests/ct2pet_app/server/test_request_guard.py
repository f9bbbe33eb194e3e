"""Which requests are let in: well-formed ones, from the server's own pages, to its own names, of limited size."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ct2pet_app.server.exception_handlers import UnhandledErrorMiddleware
from ct2pet_app.server.middleware.hosts import host_names, parse_authority
from ct2pet_app.server.middleware.request_body import IDLE_TIMEOUT_S, MAX_JSON_BYTES, MIN_BYTES_PER_S, RequestBody
from ct2pet_app.server.middleware.request_guard import MAX_QUERY_BYTES, Gate

OWN = frozenset({"petct"})


async def echo_size(scope: Any, receive: Any, send: Any) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"detail": size}).encode()})


def ask(
    headers: dict[str, str] | list[tuple[bytes, bytes]],
    *chunks: bytes,
    origins: tuple[str, ...] = (),
    path: str = "/info/",
    query: bytes = b"",
) -> tuple[int, Any]:
    """Return status and detail of one request through the guard."""
    waiting = [*chunks] or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = (
        [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        if isinstance(headers, dict)
        else headers
    )
    scope = {"type": "http", "method": "GET", "headers": raw, "path": path, "query_string": query}
    hosts = host_names(origins, resolve=False) | OWN
    asyncio.run(
        UnhandledErrorMiddleware(Gate(echo_size, origins=origins, limit_bytes=10**6, hosts=hosts))(scope, receive, send)
    )
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "localhost:8000",
        "LOCALHOST",
        "localhost.:8000",
        "[::1]:8000",
        "[fe80::1%25eth0]:8000",
        "192.0.2.7",
        "petct:8000",
    ],
)
def test_ip_addresses_and_own_host_names_are_accepted(host: str) -> None:
    assert ask({"host": host}) == (200, 0)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "[::1",
        "[",
        "[]",
        "[evil.example]",
        "::1",
        "localhost:port",
        "localhost:",
        "localhost:65536",
        "localhost:999999",
        "user@localhost",
        "user:password@localhost:80",
        "localhost/path",
        "localhost, evil.example",
        "local host",
        "locälhost",
        "²localhost",
        "localhost:8²",
        "-localhost",
        "a" * 300,
    ],
)
def test_a_malformed_host_is_a_bad_request(host: str) -> None:
    status, detail = ask({"host": host})
    assert (status, detail[:15]) == (400, "the Host header")


def test_a_request_without_host_or_with_two_is_a_bad_request() -> None:
    assert ask({})[0] == 400
    assert ask([(b"host", b"127.0.0.1"), (b"host", b"evil.example")])[0] == 400


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_no_host_and_no_origin_breaks_the_guard(host: str, origin: str) -> None:
    assert ask({"host": host, "origin": origin})[0] in (200, 400, 403)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_is_a_host(address: Any, port: int) -> None:
    text = f"[{address}]" if address.version == 6 else str(address)
    assert parse_authority(f"{text}:{port}") == (str(address), port)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("petct", "http://petct:80"),
        ("petct", "https://petct"),
        ("[::1]:80", "http://[::1]"),
    ],
)
def test_a_page_of_the_server_itself_is_allowed(host: str, origin: str) -> None:
    assert ask({"host": host, "origin": origin})[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:9999", "http://[::1", "file://127.0.0.1:8000", "http://é"],
)
def test_a_page_of_another_origin_is_not(origin: str) -> None:
    status, detail = ask({"host": "127.0.0.1:8000", "origin": origin})
    assert status == 403
    assert f"web pages of {origin} may not use this server" in detail


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
        ("cross-site", "navigate", 200),
    ],
)
def test_a_page_of_another_site_embeds_nothing_of_the_server(site: str, mode: str, status: int) -> None:
    headers = {"host": "127.0.0.1:8000", "sec-fetch-site": site, "sec-fetch-mode": mode}
    assert ask(headers)[0] == status
    assert ask(headers, origins=("https://viewer.example",))[0] == 200


def test_an_allowed_origin_and_the_name_of_its_host_are_allowed() -> None:
    allowed = ("https://viewer.example",)
    assert ask({"host": "127.0.0.1:8000", "origin": allowed[0]}, origins=allowed)[0] == 200
    assert ask({"host": "viewer.example"}, origins=allowed)[0] == 200


def test_a_name_that_is_not_the_servers_is_refused_with_the_way_out() -> None:
    status, detail = ask({"host": "evil.example:8000", "origin": "http://evil.example:8000"})
    assert (status, detail) == (
        403,
        "this server is not called evil.example; use its IP address, or, as for the name of a reverse proxy, allow it "
        "with --conf origins http://evil.example",
    )


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"path": "http://evil.example/info/"}, 400),
        ({"path": "*"}, 400),
        ({"path": "/info/\0"}, 400),
        ({"query": b"image=%00"}, 400),
        ({"query": b"a=" + b"x" * MAX_QUERY_BYTES}, 414),
    ],
)
def test_malformed_addresses_are_refused(changed: dict[str, Any], status: int) -> None:
    assert ask({"host": "localhost"}, **changed)[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "1", "transfer-encoding": "chunked"}, 400),
        ({"content-length": "1", "content-encoding": "gzip"}, 415),
        ({"content-encoding": "identity"}, 200),
    ],
)
def test_ambiguous_or_compressed_bodies_are_refused(headers: dict[str, str], status: int) -> None:
    assert ask({"host": "localhost", **headers})[0] == status


@pytest.mark.parametrize("headers", [{"cookie": "x" * 40_000}, {f"x-{number}": "1" for number in range(200)}])
def test_too_many_or_too_large_headers_are_refused(headers: dict[str, str]) -> None:
    assert ask({"host": "localhost", **headers})[0] == 431


def test_a_body_at_the_limit_passes() -> None:
    half = b"x" * (MAX_JSON_BYTES // 2)
    assert ask({"host": "localhost", "content-length": str(MAX_JSON_BYTES)}, half, half) == (200, MAX_JSON_BYTES)


class Arriving:
    """A body that arrives in parts, each some seconds after the one before."""

    def __init__(self, *parts: tuple[float, bytes], **headers: str) -> None:
        self.now_s = 0.0
        self.parts = [*parts]
        self.reads = 0
        raw = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        self.body = RequestBody(self.receive, raw, max_upload_bytes=10**6, clock=lambda: self.now_s)

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        after_s, part = self.parts.pop(0)
        self.now_s += after_s
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    def read(self) -> int:
        async def read() -> int:
            size, more = 0, True
            while more:
                message = await self.body.receive()
                size, more = size + len(message["body"]), message["more_body"]
            return size

        return asyncio.run(read())


def status_of(arriving: Arriving) -> int:
    with pytest.raises(Exception) as refused:
        arriving.read()
    return int(getattr(refused.value, "status_code", 0))


def test_a_body_that_announces_too_much_is_refused_unread() -> None:
    arriving = Arriving((0, b"x"), content_length="40001")
    assert (status_of(arriving), arriving.reads) == (413, 0)


def test_a_body_that_does_not_announce_its_size_ends_at_the_limit() -> None:
    arriving = Arriving(*[(0, b"x" * 10_000)] * 50, transfer_encoding="chunked")
    assert (status_of(arriving), arriving.reads) == (413, 5)


def test_an_endpoint_can_allow_files() -> None:
    arriving = Arriving(*[(0, b"x" * 10_000)] * 100, transfer_encoding="chunked")
    arriving.body.allow_files()
    assert arriving.read() == 10**6
    arriving = Arriving((0, b"x"), content_length="1000001")
    arriving.body.allow_files()
    assert status_of(arriving) == 413


def test_a_body_that_arrives_by_the_byte_is_given_up() -> None:
    arriving = Arriving(*[(1.0, b"x")] * 1000, content_length="1000")
    assert status_of(arriving) == 408
    assert arriving.now_s <= IDLE_TIMEOUT_S + 1


def test_a_slow_line_is_fast_enough() -> None:
    arriving = Arriving(*[(1.0, b"x" * MIN_BYTES_PER_S)] * 100, content_length="1000000")
    arriving.body.allow_files()
    assert arriving.read() == 10**6


def test_a_request_without_a_body_waits_for_its_response_without_limit() -> None:
    arriving = Arriving((10_000.0, b""))
    assert arriving.read() == 0
