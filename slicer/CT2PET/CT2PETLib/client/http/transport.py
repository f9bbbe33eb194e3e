"""HTTP requests to a server, with retries and progress, which another thread can interrupt."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from CT2PETLib.client.errors import BusyError, ServerError, ServerUrlError, UnreachableError
from CT2PETLib.client.http.error_mapping import NO_RESPONSE, cancelled, network_error, response_error
from CT2PETLib.client.http.interruptible_adapter import InterruptibleAdapter
from CT2PETLib.client.http.multipart import Progress, Upload
from CT2PETLib.client.http.server_url import ServerUrl
from CT2PETLib.i18n import _

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 1 << 16
UNAUTHORIZED = 401
Waiting = Callable[[ServerError, float], None]  # called with the error and the seconds until the next attempt


@dataclass(frozen=True)
class RetryPolicy:
    """Retries after a lost connection.

    Attributes:
        for_s: Seconds after the first failure in which retries start; 0 for no retries.
        first_s: Delay before the first retry in seconds; doubled before each further one.
        longest_s: Maximum delay in seconds.
    """

    for_s: float
    first_s: float = 0.5
    longest_s: float = 5.0


NO_RETRY = RetryPolicy(0.0)
SHORT_RETRY = RetryPolicy(8.0)


class Token:
    """Access token of a signed-in user: kept in memory, and excluded from `repr`."""

    def __init__(self) -> None:
        self.value = ""

    def __repr__(self) -> str:
        return "Token(signed in)" if self.value else "Token()"


@dataclass(frozen=True)
class Response:
    """Response of the server."""

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
    """A session with a server. Not thread-safe, except for `interrupt`."""

    def __init__(self, address: ServerUrl, *, timeout_s: float, verify: bool | str, token: Token) -> None:
        if verify is False:
            raise ServerUrlError(
                _(
                    "Certificate verification cannot be switched off: choose the file of the certificate authority "
                    "instead."
                )
            )
        self.address = address
        self.timeout_s = timeout_s
        self.verify = verify
        self.token = token
        self._interrupted = threading.Event()
        self._adapter = InterruptibleAdapter(self._interrupted)
        self._session = requests.Session()
        self._session.trust_env = not address.is_this_machine  # the network's proxy cannot reach this machine
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def request(
        self,
        method: str,
        *path: str,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        upload: Upload | None = None,
        progress: Progress | None = None,
        retry_policy: RetryPolicy = SHORT_RETRY,
        waiting: Waiting | None = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Return the response to a request.

        Args:
            method: HTTP method.
            path: Parts of the path; an empty last one adds a trailing slash.
            query: Query parameters.
            form, json, upload: The body, at most one of them.
            progress: Called with the number of bytes received and in total.
            retry_policy: For a lost connection or a busy server; `NO_RETRY` for a request that is not idempotent.
            waiting: Called before each retry.
            timeout_s: Read timeout, if it differs from that of the session.

        Raises:
            CancelledError: `interrupt` was called.
            ServerError: The request failed; see `errors` for the subclasses.
        """
        request = _Request(method, self.address.of(*path), query, form, json, upload, timeout_s or self.timeout_s)
        lost_at, pause_s = 0.0, retry_policy.first_s
        while True:
            if self._interrupted.is_set():
                raise cancelled()
            try:
                return self._request_once(request, progress)
            except (UnreachableError, BusyError) as error:
                lost_at = lost_at or time.monotonic()
                pause_s = max(pause_s, error.retry_in_s if isinstance(error, BusyError) else 0.0)
                # a second request would only double the work of the server
                is_working = isinstance(error, UnreachableError) and error.why == NO_RESPONSE
                if is_working or time.monotonic() - lost_at + pause_s > retry_policy.for_s:
                    raise
                if waiting is not None:
                    waiting(error, pause_s)
            self.pause(pause_s)
            pause_s = min(2 * pause_s, retry_policy.longest_s)

    def pause(self, seconds: float) -> None:
        """Wait for a number of seconds.

        Raises:
            CancelledError: `interrupt` was called.
        """
        if self._interrupted.wait(seconds):
            raise cancelled()

    def interrupt(self) -> None:
        """Abort the current request at once, and refuse further ones."""
        self._interrupted.set()
        self._adapter.interrupt()

    def close(self) -> None:
        """Close the open connections."""
        self._session.close()

    def _request_once(self, request: _Request, progress: Progress | None) -> Response:
        token = self.token.value
        headers = {"Accept-Encoding": "identity"}  # so that Content-Length is the length of the body
        if request.upload is not None:
            request.upload.rewind()
            headers["Content-Type"] = request.upload.content_type
        try:
            response = self._session.request(
                request.method,
                request.url,
                params=request.query,
                data=request.upload or request.form,
                json=request.json,
                headers=headers,
                auth=_Bearer(self.token),
                timeout=(min(CONNECT_TIMEOUT_S, request.timeout_s), request.timeout_s),
                verify=self.verify,
                allow_redirects=False,
                stream=True,
            )
            with response:
                content = _content(response, progress)
        except (requests.RequestException, OSError) as error:
            raise self._error(error) from error
        except Exception as error:  # interrupting a connection can break any state of urllib3
            if not self._interrupted.is_set():
                raise
            raise cancelled() from error
        finally:
            if request.upload is not None:
                request.upload.close()
        kind, location = (response.headers.get(name, "") for name in ("Content-Type", "Location"))
        if self._interrupted.is_set():
            raise cancelled()
        if not 200 <= response.status_code < 300:
            if response.status_code == UNAUTHORIZED and self.token.value == token:
                self.token.value = ""  # it has expired or was revoked
            raise response_error(
                response.status_code,
                content,
                self.address,
                location=location,
                signed_in=bool(token),
                retry_after=response.headers.get("Retry-After", ""),
            )
        return Response(response.status_code, content, kind, location)

    def _error(self, error: Exception) -> ServerError:
        return cancelled() if self._interrupted.is_set() else network_error(error, self.address)


def _content(response: requests.Response, progress: Progress | None) -> bytes:
    """Return the body.

    Raises:
        requests.exceptions.ConnectionError: The response is truncated: the body is shorter than its Content-Length,
            which older versions of urllib3 accept, or the header ends before Content-Length, which all versions accept.
    """
    total = int(response.headers.get("Content-Length") or 0)
    chunks, received = [], 0
    for chunk in response.iter_content(CHUNK_BYTES):
        chunks.append(chunk)
        received += len(chunk)
        if progress is not None:
            progress(received, total)
    is_framed = "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
    is_page = response.headers.get("Content-Type", "").startswith("text/html")  # of a program that frames by closing
    if received < total or not (is_framed or is_page):
        raise requests.exceptions.ConnectionError(f"truncated after {received} bytes")
    return b"".join(chunks)


class _Bearer(requests.auth.AuthBase):
    """Authentication with the token, and with nothing without one, not even from a .netrc file."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token.value:
            request.headers["Authorization"] = f"Bearer {self._token.value}"
        return request
