"""Size and time limits of a request to a PACS, and its cancellation.

Responses of a PACS are untrusted: they may decompress to a thousand times their size, never end, or arrive at a byte
per second. Bytes are counted as they leave the socket (`transport.py`) and the decoder (`session.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lib.errors import FetchCancelledError, RemoteError
from lib.types import never_cancelled

SILENCE_TIMEOUT_S = 60.0  # between two pieces; a PACS may fetch an old study from tape first
RESPONSE_TIMEOUT_S = 90.0  # of a request with its retries, extended by the transferred bytes
MIN_BYTES_PER_S = 2**16  # transferred bytes extend the time at this rate, half a megabit per second per connection


class InvalidResponseError(RemoteError):
    """A response that cannot be parsed."""


class ResponseTooLargeError(InvalidResponseError):
    """A response above the size limit; a retry would give the same response."""


class ResponseBudget:
    """The limits of one request with its retries; used by one thread at a time.

    Args:
        url: URL of the PACS, for messages.
        max_bytes: Maximum size of the decoded body.
        cancelled: Returns whether the request has been cancelled.
        deadline: Deadline of the entire operation, by `time.monotonic()`.
    """

    def __init__(
        self,
        url: str,
        *,
        max_bytes: int,
        cancelled: Callable[[], bool] = never_cancelled,
        deadline: float = math.inf,
    ) -> None:
        self._url = url
        self._max_bytes = max_bytes
        self._cancelled = cancelled
        self._deadline = deadline
        self._started = self._last_activity = time.monotonic()
        self._transferred = 0

    def note_attempt(self) -> None:
        """Restart the silence timeout: the request is sent, or sent again."""
        self._last_activity = time.monotonic()

    def note_transfer(self, count: int) -> None:
        """Count transferred bytes."""
        self._transferred += count
        self._last_activity = time.monotonic()

    def check(self) -> None:
        """Raise if the request is cancelled or its time is over.

        Raises:
            FetchCancelledError: The request was cancelled.
            RemoteError: The time is over.
        """
        if self._cancelled():
            raise FetchCancelledError(f"{self._url}: the request was cancelled")
        now = time.monotonic()
        if now > self._deadline:
            raise RemoteError(f"{self._url}: sends too slowly, the time for all of it is up; is the PACS busy?")
        if now - self._last_activity > SILENCE_TIMEOUT_S:
            raise RemoteError(f"{self._url}: no answer within {SILENCE_TIMEOUT_S:.0f} s; is the PACS busy?")
        if now - self._started > RESPONSE_TIMEOUT_S + self._transferred / MIN_BYTES_PER_S:
            raise RemoteError(
                f"{self._url}: sends too slowly, {self._transferred} bytes in {now - self._started:.0f} s; "
                "is the PACS busy?"
            )

    def refuse_large(self, count: int) -> None:
        """Raise ResponseTooLargeError if a body exceeds the size limit.

        Args:
            count: The decoded bytes so far, or the declared size.
        """
        if count > self._max_bytes:
            raise ResponseTooLargeError(
                f"{self._url}: sends more than {self._max_bytes / 1e6:.0f} MB where an answer is smaller; not read on"
            )
