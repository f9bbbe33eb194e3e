"""HTTP session with a PACS: a single host, verified certificates, limited responses, and retries.

By default, `requests` has no timeout, follows redirects to any host, and reads the entire body of a redirect.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from lib.dicom.remote.budget import SILENCE_TIMEOUT_S, InvalidResponseError, ResponseBudget
from lib.dicom.remote.transport import CONNECT_TIMEOUT_S, POLL_INTERVAL_S, BudgetAdapter, spending
from lib.errors import InputError, RemoteError

MAX_ATTEMPTS = 4
FIRST_PAUSE_S = 0.5  # doubled after each attempt: 3.5 s in total, enough for a PACS that restarts
TRANSIENT_STATUSES = frozenset({408, 425, 429, 502, 503, 504})  # HTTP statuses for which a retry may succeed
CONNECTIONS = 8
READ_CHUNK_BYTES = 2**16
# decoded by urllib3 in steps; brotli and zstd depend on installed packages, and chains expand too much
ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
Result = TypeVar("Result")


@dataclass(frozen=True)
class Credentials:
    """Credentials of a PACS: user name and password, or a bearer token; neither for an open PACS."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.token and self.username:
            raise InputError(
                "both a user name and a token of the PACS are given; give a user name and password, or a token"
            )
        if bool(self.username) != bool(self.password):
            raise InputError("of the PACS's user name and password one is missing; give both")

    def as_auth(self) -> AuthBase | None:
        """Return the authentication for `requests`; None without credentials."""
        if self.token:
            return _Bearer(self.token)
        return HTTPBasicAuth(self.username.encode(), self.password.encode()) if self.username else None


class HttpStatusError(RemoteError):
    """A response of a PACS whose HTTP status is not a success."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.params["status"])


class PacsSession(requests.Session):
    """A session for one PACS, whose errors are RemoteErrors with a remedy."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        super().__init__()
        self._url = url
        self._origin = _origin(url)
        self.auth = credentials.as_auth()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # cookies would accumulate
        self.headers["Accept-Encoding"] = "gzip"
        for scheme in ("http://", "https://"):
            self.mount(scheme, BudgetAdapter(pool_maxsize=CONNECTIONS))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, because `requests` would read the body of a redirect without a limit."""

    def exchange(
        self,
        method: str,
        url: str,
        consume: Callable[[ResponseBody], Result],
        budget: ResponseBudget,
        *,
        headers: Mapping[str, str],
        data: bytes | None = None,
        accept_status: int | None = None,
    ) -> Result:
        """Return the result of `consume` for a successful response; retry both if that may help.

        Args:
            method: GET or POST.
            url: A URL of the PACS; other hosts are refused.
            consume: Reads the body; called for each attempt.
            budget: The limits of all attempts together.
            headers: Headers of the request.
            data: Body of the request.
            accept_status: A status other than 2xx whose body is consumed.

        Raises:
            HttpStatusError: The status is not a success.
            InvalidResponseError: The response is too large.
            FetchCancelledError: The budget's `cancelled` returned True.
            RemoteError: There is no response, it is incomplete or too slow, the certificate is not trusted, or the
                host is another one.
        """
        if _origin(url) != self._origin:
            raise RemoteError(f"{self._url}: would have to ask {_origin(url)}, which is another host; not done")
        request = {"method": method, "url": url, "headers": dict(headers), "data": data}
        failure = ""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                _pause(FIRST_PAUSE_S * 2 ** (attempt - 1), budget)
            try:
                with self._response(request, budget) as response:
                    if response.status_code not in TRANSIENT_STATUSES:
                        if response.status_code != accept_status:
                            self._refuse_failure(response)
                        return consume(ResponseBody(response, budget, self._url))
                    failure = f"answers {response.status_code} {_short(response.reason)}"
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                failure = f"cannot be reached, or breaks off ({_innermost_message(error)})"
        raise RemoteError(
            f"{self._url}: {failure}, {MAX_ATTEMPTS} times; is the PACS running, and the address right? "
            "What was fetched is kept"
        )

    @contextlib.contextmanager
    def _response(self, request: dict[str, Any], budget: ResponseBudget) -> Iterator[requests.Response]:
        """Yield the response to one attempt; errors for which a retry may help are passed through.

        Raises:
            RemoteError: TLS fails, or the request is invalid.
        """
        budget.check()
        budget.note_attempt()
        timeout = (CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S)
        try:
            with (
                spending(budget),
                self.request(**request, stream=True, allow_redirects=False, timeout=timeout) as response,
            ):
                yield response
        except requests.exceptions.SSLError as error:
            raise RemoteError(
                f"{self._url}: its certificate is not trusted or TLS fails ({_innermost_message(error)}); have "
                "REQUESTS_CA_BUNDLE name a file with the certificate of the authority that signed it"
            ) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            raise
        except requests.RequestException as error:
            raise RemoteError(f"{self._url}: {_innermost_message(error)}") from error

    def _refuse_failure(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            message = f"redirects to {_target(response)}, which is not followed; give the address itself"
        elif status in (401, 403):
            way_out = "check the user name and password, or the token" if self.auth else "give a user name or a token"
            message = f"refuses us ({status}); {way_out}"
        elif status == 404:
            message = "has no such resource (404); its DICOMweb URL often ends in /dicom-web"
        else:
            message = f"answers {status} {_short(response.reason)}"
        raise HttpStatusError(f"{self._url}: {message}", status=status)


class ResponseBody:
    """The body of a response, which can be read once, in chunks."""

    def __init__(self, response: requests.Response, budget: ResponseBudget, url: str) -> None:
        self._response = response
        self._budget = budget
        self._url = url

    @property
    def content_type(self) -> str:
        """The Content-Type header; empty if absent."""
        return str(self._response.headers.get("Content-Type", ""))

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return self._response.status_code

    def chunks(self) -> Iterator[bytes]:
        """Yield the decoded body.

        Raises:
            InvalidResponseError: The body is larger than the budget allows, or has an unsupported encoding.
        """
        encoding = self._response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise InvalidResponseError(
                f"{self._url}: sends Content-Encoding {_short(encoding)!r}; expected gzip or none"
            )
        declared = self._response.headers.get("Content-Length", "")
        if declared.isdecimal() and len(declared) < 20:
            self._budget.refuse_large(int(declared))
        received = 0
        for chunk in self._response.iter_content(READ_CHUNK_BYTES):
            received += len(chunk)
            self._budget.refuse_large(received)
            self._budget.check()
            yield chunk


def _pause(seconds: float, budget: ResponseBudget) -> None:
    until = time.monotonic() + seconds
    while (remaining := until - time.monotonic()) > 0:
        budget.check()
        time.sleep(min(remaining, POLL_INTERVAL_S))


def _target(response: requests.Response) -> str:
    try:
        return _short(_origin(urljoin(response.url, response.headers.get("Location", ""))))
    except ValueError:  # not a URL
        return "elsewhere"


def _short(text: object) -> str:
    """Return text of a PACS as one short ASCII line for logs and responses."""
    return " ".join(str(text or "").split()).encode("ascii", "backslashreplace").decode()[:80]


class _Bearer(AuthBase):
    """Bearer authentication; as `auth` of the session it takes precedence over a .netrc file."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def checked_url(url: str) -> str:
    """Return the base URL of a DICOMweb service without a trailing slash.

    Raises:
        InputError: The text is not an http(s) URL, or contains a password, which logs and process lists would show.
    """
    expected = "expected the address of a DICOMweb service, such as https://pacs.example/dicom-web"
    try:
        parts = urlsplit(url.strip())
        if parts.username or parts.password:
            raise InputError("the PACS's address holds a user name or password; give them apart from the address")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(f"{url!r}: {expected}")
        _origin(url)
    except ValueError as error:  # invalid port or unmatched brackets
        raise InputError(f"{url!r}: {error}; {expected}") from error
    return url.strip().rstrip("/")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _innermost_message(error: BaseException) -> str:
    """Return the message of the innermost of nested errors; outer ones repeat URLs and object names."""
    seen: set[int] = set()  # ends cycles
    while id(error) not in seen:
        seen.add(id(error))
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        inner = inner or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    message = str(error).split(": ", 1)[-1] if "object at 0x" in str(error) else str(error)
    return " ".join(message.split()).encode("ascii", "backslashreplace").decode()[:200]
