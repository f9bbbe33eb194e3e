"""A request's body ends at a limit, before it fills the disk."""

from __future__ import annotations

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOO_LARGE = 413


class LimitedBody:
    """ASGI middleware: refuses at once what announces too much, and stops counting bodies at the limit."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._limit_bytes:
            await JSONResponse({"detail": self._words()}, status_code=TOO_LARGE)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit_bytes:
                raise HTTPException(TOO_LARGE, self._words())
            return message

        await self._app(scope, counted, send)

    def _words(self) -> str:
        return (
            f"the request is larger than {self._limit_bytes / 1e6:.0f} MB: send one CT series, or start the server "
            "with a larger --conf max_upload_mb"
        )
