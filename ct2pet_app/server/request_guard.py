"""What every request passes first: who may ask through a browser, and how much may be sent."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORBIDDEN, TOO_LARGE = 403, 413
MOST_WORDS_BYTES = 40_000  # of a body without files: MONAI Label hands it to a child on a command line, 128 kB at most


class Gate:
    """ASGI middleware.

    A web page that somebody visits can make the browser ask a server on the same computer. Pages of other origins are
    refused, whether or not they could read the answer; so is, on a loopback address, any host name that is not this
    computer's (DNS rebinding). A body ends at a limit, before it fills the disk.
    """

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...], limit_bytes: int) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        foreign = self._why_foreign(headers, scope)
        if foreign:
            await JSONResponse({"detail": foreign}, status_code=FORBIDDEN)(scope, receive, send)
            return
        holds_files = headers.get(b"content-type", "").lower().startswith("multipart/form-data")
        limit_bytes = self._limit_bytes if holds_files else min(MOST_WORDS_BYTES, self._limit_bytes)
        announced = headers.get(b"content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > limit_bytes:
            words = self._too_large(limit_bytes)
            await JSONResponse({"detail": words}, status_code=TOO_LARGE)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit_bytes:
                raise HTTPException(TOO_LARGE, self._too_large(limit_bytes))
            return message

        await self._app(scope, counted, send)

    def _why_foreign(self, headers: dict[bytes, str], scope: Scope) -> str:
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        if origin and origin not in self._origins and urlsplit(origin).netloc != host:
            return f"web pages of {origin[:100]} may not ask this server; its owner can allow them with --conf origins"
        allowed_hosts = {urlsplit(allowed).netloc for allowed in self._origins}
        local_address = (scope.get("server") or ("", 0))[0]
        if (
            _is_loopback(local_address)
            and host not in allowed_hosts
            and not _is_loopback(urlsplit(f"//{host}").hostname)
        ):
            return f"this server is not {host[:100]}; ask 127.0.0.1, or have that name allowed with --conf origins"
        return ""

    def _too_large(self, limit_bytes: int) -> str:
        if limit_bytes < self._limit_bytes:
            return f"the request's words are more than {limit_bytes / 1e3:.0f} kB; send images as files of a form"
        return (
            f"the request is larger than {self._limit_bytes / 1e6:.0f} MB: send one CT series, or start the server "
            "with a larger --conf max_upload_mb"
        )


def _is_loopback(name: str | None) -> bool:
    if name in (None, "", "localhost"):
        return name == "localhost"
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False
