"""Requests to one server that can be ended from outside at any moment, tried again, and watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from CT2PETLib.client.error_mapping import NO_ANSWER, cancelled, network_fault, refusal
from CT2PETLib.client.errors import BusyError, ServerError, ServerUrlError, UnreachableError
from CT2PETLib.client.interruptible_adapter import InterruptibleAdapter
from CT2PETLib.client.multipart import Progress, Upload
from CT2PETLib.client.server_url import ServerUrl

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 1 << 16
Waiting = Callable[[ServerError, float], None]  # why, and in how many seconds it is tried again


@dataclass(frozen=True)
class RetryPolicy:
    """How long a lost connection is tried again.

    Attributes:
        for_s: Seconds since it was lost; 0 for not at all.
        first_s: Before the first time; twice as long before each further one.
        longest_s: At most that long.
    """

    for_s: float
    first_s: float = 0.5
    longest_s: float = 5.0


NONE = RetryPolicy(0.0)
SHORT = RetryPolicy(8.0)


class Token:
    """Who has signed in: kept in memory, and never shown."""

    def __init__(self) -> None:
        self.word = ""

    def __repr__(self) -> str:
        return "Token(signed in)" if self.word else "Token()"


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    content: bytes
    content_type: str
    location: str


@dataclass(frozen=True)
class _Request:
    method: str
    url: str
    query: Mapping[str, str] | None
    form: Mapping[str, str] | None
    json: Any
    upload: Upload | None
    timeout_s: float


class Transport:
    """A session with one server. `interrupt` may be called by any thread; all else by one at a time."""

    def __init__(self, address: ServerUrl, *, timeout_s: float, verify: bool | str, token: Token) -> None:
        if verify is False:
            raise ServerUrlError(
                "An unverified connection could be anybody's: choose the file of the certificate authority instead."
            )
        self.address = address
        self.timeout_s = timeout_s
        self.verify = verify
        self.token = token
        self._interrupted = threading.Event()
        self._adapter = InterruptibleAdapter(self._interrupted)
        self._session = requests.Session()
        self._session.trust_env = not address.is_this_machine  # no proxy of the network leads back here
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def ask(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        upload: Upload | None = None,
        progress: Progress | None = None,
        retry_policy: RetryPolicy = SHORT,
        waiting: Waiting | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Return the answer to a request.

        Args:
            method: Of HTTP.
            path: Its parts; a last one that is empty makes it end with a slash.
            query: Behind the question mark.
            form, json, upload: The body; at most one.
            progress: Told of what has come.
            patience: How long a request is made again that was lost on its way or came at a bad moment; `NONE` for
                one that must not be made twice.
            waiting: Told before each further try.
            timeout_s: Shorter than the usual.

        Raises:
            CancelledError: `interrupt` was called.
            ServerError: One of its kinds; see `errors`.
        """
        request = _Request(method, self.address.of(*path), query, form, json, upload, timeout_s or self.timeout_s)
        lost_at, pause_s = 0.0, retry_policy.first_s
        while True:
            if self._interrupted.is_set():
                raise cancelled()
            try:
                return self._ask_once(request, progress)
            except (UnreachableError, BusyError) as error:
                lost_at = lost_at or time.monotonic()
                pause_s = max(pause_s, error.retry_in_s if isinstance(error, BusyError) else 0.0)
                still_at_work = (
                    isinstance(error, UnreachableError) and error.why == NO_ANSWER
                )  # asked twice: twice as late
                if still_at_work or time.monotonic() - lost_at + pause_s > retry_policy.for_s:
                    raise
                if waiting is not None:
                    waiting(error, pause_s)
            self.pause(pause_s)
            pause_s = min(2 * pause_s, retry_policy.longest_s)

    def pause(self, seconds: float) -> None:
        """Return after so many seconds.

        Raises:
            CancelledError: `interrupt` was called.
        """
        if self._interrupted.wait(seconds):
            raise cancelled()

    def interrupt(self) -> None:
        """End the request under way at once, and let no further one begin."""
        self._interrupted.set()
        self._adapter.cut()

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def _ask_once(self, asked: _Request, progress: Progress | None) -> Answer:
        headers = {"Accept-Encoding": "identity"}  # so that lengths are those that were announced
        if asked.upload is not None:
            asked.upload.rewind()
            headers["Content-Type"] = asked.upload.content_type
        try:
            response = self._session.request(
                asked.method,
                asked.url,
                params=asked.query,
                data=asked.upload or asked.form,
                json=asked.json,
                headers=headers,
                auth=_Bearer(self.token),
                timeout=(min(CONNECT_TIMEOUT_S, asked.timeout_s), asked.timeout_s),
                verify=self.verify,
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _content(response, progress)
        except (requests.RequestException, OSError) as error:
            raise self._fault(error) from error
        except Exception as error:  # a connection cut from outside can break anything inside urllib3
            if not self._interrupted.is_set():
                raise
            raise cancelled() from error
        finally:
            if asked.upload is not None:
                asked.upload.close()
        kind, location = (response.headers.get(name, "") for name in ("Content-Type", "Location"))
        if self._interrupted.is_set():
            raise cancelled()
        if not 200 <= response.status_code < 300:
            raise refusal(
                response.status_code,
                content,
                self.address,
                location=location,
                signed_in=bool(self.token.word),
                retry_after=response.headers.get("Retry-After", ""),
            )
        return Answer(response.status_code, content, kind, location)

    def _fault(self, error: Exception) -> ServerError:
        return cancelled() if self._interrupted.is_set() else network_fault(error, self.address)


def _content(response: requests.Response, progress: Progress | None) -> bytes:
    """Return the body.

    Raises:
        requests.exceptions.ConnectionError: It was cut: it is shorter than announced, which older versions of urllib3
            let pass, or its head ends before the announcement, which all of them do.
    """
    announced = int(response.headers.get("Content-Length") or 0)
    pieces, come = [], 0
    for piece in response.iter_content(CHUNK_BYTES):
        pieces.append(piece)
        come += len(piece)
        if progress is not None:
            progress(come, announced)
    is_framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    is_page = response.headers.get("Content-Type", "").startswith("text/html")  # of some old program
    if come < announced or not (is_framed or is_page):
        raise requests.exceptions.ConnectionError(f"cut after {come} bytes")
    return b"".join(pieces)


class _Bearer(requests.auth.AuthBase):
    """The token of who has signed in; without one nothing, not even what a .netrc file would add."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token.word:
            request.headers["Authorization"] = f"Bearer {self._token.word}"
        return request
