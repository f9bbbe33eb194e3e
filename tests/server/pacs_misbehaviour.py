"""Misbehaviour of a PACS for tests: wrong, slow, endless and compressed responses."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator

from tests.server.malicious_pacs import JSON, Behaviour, RequestHandler

INFINITE = 10**12  # bytes announced by a response that never ends


def responds(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Return a behaviour that sends this response; header names are written with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(status, named, body)


def responds_json(content: object) -> Behaviour:
    """Return a behaviour that sends any JSON, including NaN and lone surrogates."""
    return responds(200, json.dumps(content).encode(), Content_Type=JSON)


def redirects(status: int = 302, to: str = "http://127.0.0.1:9/elsewhere") -> Behaviour:
    """Return a behaviour that redirects to another URL."""
    return responds(status, Location=to)


def hangs() -> Behaviour:
    """Return a behaviour that accepts a request and never responds."""

    def hang(handler: RequestHandler) -> None:
        while handler.wait(0.5):
            pass

    return hang


def drips(
    content_type: str = JSON, begin: bytes = b"[", *, interval_s: float = 1.0, length: int | None = None
) -> Behaviour:
    """Return a behaviour that sends an endless body byte by byte; `length` is the announced Content-Length."""

    def drip(handler: RequestHandler) -> None:
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        handler.send_head(200, {"Content-Type": content_type, **framing})
        piece = begin
        while True:
            handler.wfile.write(piece if length is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
            piece = b" "
            if not handler.wait(interval_s):
                return

    return drip


def drips_headers(*, interval_s: float = 1.0) -> Behaviour:
    """Return a behaviour that sends an endless header byte by byte."""

    def drip(handler: RequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while handler.wait(interval_s):
            handler.wfile.write(b"x")

    return drip


def sends_endlessly(content_type: str = JSON, begin: bytes = b"[", again: bytes = b" " * 65536) -> Behaviour:
    """Return a behaviour that sends an endless chunked body as fast as the client reads it."""

    def send(handler: RequestHandler) -> None:
        handler.send_head(200, {"Content-Type": content_type, "Transfer-Encoding": "chunked"})
        for piece in _repeated(begin, again):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if not handler.wait(0):
                return

    return send


def _repeated(begin: bytes, again: bytes) -> Iterator[bytes]:
    yield begin
    while True:
        yield again


def gzip_bomb(
    size: int, content_type: str = JSON, begin: bytes = b"[", *, status: int = 200, **headers: str
) -> Behaviour:
    """Return a behaviour whose gzip body decompresses to `size` bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(size // 2**20):
            file.write(b" " * 2**20)
    return responds(status, packed.getvalue(), Content_Type=content_type, Content_Encoding="gzip", **headers)
