"""How much a PACS may send for one request, and how long it may take; who waits for it may cancel it.

The response of a PACS is foreign input: it can be packed a thousand times over, never end, or come a byte a second. The
limits are counted where bytes come out of the socket (`transport.py`) and out of the decoder (`session.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from lib.errors import FetchCancelledError, RemoteError
from lib.types import never_cancelled

SILENCE_TIMEOUT_S = 60.0  # between two pieces; a PACS may fetch an old study from tape first
RESPONSE_TIMEOUT_S = 90.0  # of a request with its repeats, before what was transferred adds to it
MIN_BYTES_PER_S = 2**16  # what is transferred adds to the time at this rate: half a megabit a second for a connection


class InvalidResponseError(RemoteError):
    """An answer that cannot be understood."""


class ResponseTooLargeError(InvalidResponseError):
    """An answer of which no more is read; another attempt would bring the same."""


class ResponseBudget:
    """The limits of one request with its repeats; used by one thread at a time.

    Args:
        url: Of the PACS, for messages.
        max_bytes: Of the decoded body.
        cancelled: Whether nobody waits for the response any more.
        deadline: By `time.monotonic()`, of the work that the request is a part of.
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
        self._began = self._moved = time.monotonic()
        self._transferred = 0

    def note_attempt(self) -> None:
        """Count the silence from now on: the request is sent, or sent again."""
        self._moved = time.monotonic()

    def note_transfer(self, count: int) -> None:
        """Count bytes that went over the network."""
        self._transferred += count
        self._moved = time.monotonic()

    def check(self) -> None:
        """Return while the response may still be waited for.

        Raises:
            FetchCancelledError: It was cancelled.
            RemoteError: The time is up.
        """
        if self._cancelled():
            raise FetchCancelledError(f"{self._url}: the request was cancelled")
        now = time.monotonic()
        if now > self._deadline:
            raise RemoteError(f"{self._url}: sends too slowly, the time for all of it is up; is the PACS busy?")
        if now - self._moved > SILENCE_TIMEOUT_S:
            raise RemoteError(f"{self._url}: no answer within {SILENCE_TIMEOUT_S:.0f} s; is the PACS busy?")
        if now - self._began > RESPONSE_TIMEOUT_S + self._transferred / MIN_BYTES_PER_S:
            raise RemoteError(
                f"{self._url}: sends too slowly, {self._transferred} bytes in {now - self._began:.0f} s; "
                "is the PACS busy?"
            )

    def refuse_large(self, count: int) -> None:
        """Raise AnswerTooLargeError where a body is larger than it may be.

        Args:
            count: Its decoded bytes so far, or as it announces them.
        """
        if count > self._max_bytes:
            raise ResponseTooLargeError(
                f"{self._url}: sends more than {self._max_bytes / 1e6:.0f} MB where an answer is smaller; not read on"
            )
