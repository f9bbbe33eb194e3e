"""Limits on the body of a request: its size, and the time that it may take to arrive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import anyio
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from ct2pet_app.errors import HttpError

REQUEST_TIMEOUT, TOO_LARGE = 408, 413
MAX_JSON_BYTES = 40_000  # MONAI Label passes a task's request to a child on a command line, 128 kB at most
MAX_DRAINED_BYTES = 64_000  # an unread body up to this size does not cost the connection
IDLE_TIMEOUT_S = 60.0  # between two parts of a body
MIN_BYTES_PER_S = 10_000  # on average, after the first minute
SCOPE_KEY = "ct2pet.body"


class RequestBody:
    """Counts the bytes of one request's body; it is small unless the endpoint has allowed files.

    Args:
        receive: The server's.
        headers: Of the request, lower case.
        max_upload_bytes: The limit once files are allowed.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[bytes, str],
        *,
        max_upload_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive = receive
        self._clock = clock
        self._max_upload_bytes = max_upload_bytes
        self._limit_bytes = min(MAX_JSON_BYTES, max_upload_bytes)
        length = headers.get(b"content-length", "0")
        self._announced = int(length) if length.isdecimal() else 0
        self._chunked = b"transfer-encoding" in headers
        self._received = 0
        self._started_s: float | None = None
        self._complete = not self._chunked and self._announced == 0

    @property
    def is_worth_closing(self) -> bool:
        """Whether so much of the body has not been read that the connection must not be used again."""
        return not self._complete and (self._chunked or self._announced - self._received > MAX_DRAINED_BYTES)

    def allow_files(self) -> None:
        """Raise the limit to that of uploads: the caller may upload files, and the endpoint takes them."""
        self._limit_bytes = self._max_upload_bytes

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            HTTPException: 413, the body is larger than its limit; 408, it arrives too slowly.
        """
        if self._complete:
            return await self._receive()
        self._refuse_above_limit(self._announced)
        now = self._clock()
        self._started_s = now if self._started_s is None else self._started_s
        left_s = self._started_s + IDLE_TIMEOUT_S + self._received / MIN_BYTES_PER_S - now
        message: Message | None = None
        if left_s > 0:
            with anyio.move_on_after(min(left_s, IDLE_TIMEOUT_S)):
                message = await self._receive()
        if message is None:
            raise HTTPException(
                REQUEST_TIMEOUT,
                f"the body arrives too slowly: at least {MIN_BYTES_PER_S / 1e3:.0f} kB/s are expected; send it again",
                {"Connection": "close"},
            )
        self._received += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        self._refuse_above_limit(self._received)
        return message

    def _refuse_above_limit(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise _too_large(self._limit_bytes, self._max_upload_bytes)


def _too_large(limit_bytes: int, max_upload_bytes: int) -> HttpError:
    if limit_bytes < max_upload_bytes:
        return HttpError(
            TOO_LARGE,
            f"the body is larger than {limit_bytes / 1e3:.0f} kB, the limit of requests without files; images are sent "
            "as files of a form (multipart/form-data) to an endpoint that accepts files",
            code="body_too_large",
            limit_bytes=limit_bytes,
        )
    limit_mb = round(max_upload_bytes / 1e6)
    message = f"the request is larger than {limit_mb} MB; send one CT series"
    return HttpError(TOO_LARGE, message, code="request_too_large", limit_mb=limit_mb)
