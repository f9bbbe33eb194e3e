"""The HTTP of a PACS: one host and no other, certificates verified, every response limited, repeated where it can help.

``requests`` left to itself waits for ever, follows redirects anywhere, reads the body of a redirect whole, and tells
trouble as tracebacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from lib.dicom.remote.budget import SILENCE_TIMEOUT_S, InvalidResponseError, ResponseBudget
from lib.dicom.remote.transport import CONNECT_TIMEOUT_S, POLL_INTERVAL_S, BudgetAdapter, spending
from lib.errors import InputError, RemoteError

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5  # doubled each time: 3.5 s in all, enough for a PACS that restarts
PASSING = frozenset({408, 425, 429, 502, 503, 504})  # HTTP statuses that another attempt may not meet again
CONNECTIONS = 8
READ_CHUNK_BYTES = 2**16
# what urllib3 unpacks step by step; brotli and zstd depend on what is installed, and chains unpack too well
ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
Result = TypeVar("Result")


@dataclass(frozen=True)
class Credentials:
    """Who asks: a user name with a password, or a bearer token; neither for an open PACS."""

    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.token and self.username:
            raise InputError("a PACS is asked with a user name and password or with a token, not with both")
        if bool(self.username) != bool(self.password):
            raise InputError("of the PACS's user name and password one is missing; give both")

    def as_auth(self) -> AuthBase | None:
        """Return how requests signs what it sends."""
        if self.token:
            return _Bearer(self.token)
        return HTTPBasicAuth(self.username.encode(), self.password.encode()) if self.username else None


class HttpStatusError(RemoteError):
    """A PACS's answer with an HTTP status that is no success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PacsSession(requests.Session):
    """A session for one address; every trouble is a RemoteError that says the way out."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        super().__init__()
        self._url = url
        self._origin = _origin(url)
        self.auth = credentials.as_auth()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # or they would pile up
        self.headers["Accept-Encoding"] = "gzip"
        for scheme in ("http://", "https://"):
            self.mount(scheme, BudgetAdapter(pool_maxsize=CONNECTIONS))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: `requests` reads the body of what it takes for a redirect, however large."""

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
        """Return what `consume` makes of a successful response; both are repeated where that can help.

        Args:
            method: GET or POST.
            url: Of the PACS; no other host is asked.
            consume: Reads the body; called anew at each attempt.
            budget: Its limits, for all attempts together.
            headers: Of the request.
            data: Body of the request.
            accept_status: A status beside 2xx whose body is wanted.

        Raises:
            HttpStatusError: A response that is no success.
            AnswerError: One that is too large.
            FetchCancelledError: The budget's `cancelled` returned True.
            RemoteError: No response, half a response, too slow a one, a certificate that is not trusted, another host.
        """
        if _origin(url) != self._origin:
            raise RemoteError(f"{self._url}: would have to ask {_origin(url)}, which is another host; not done")
        trouble = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                _pause(FIRST_PAUSE_S * 2 ** (attempt - 1), budget)
            budget.check()
            budget.note_attempt()
            try:
                with (
                    spending(budget),
                    self.request(
                        method,
                        url,
                        headers=dict(headers),
                        data=data,
                        stream=True,
                        allow_redirects=False,
                        timeout=(CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S),
                    ) as response,
                ):
                    if response.status_code not in PASSING:
                        if response.status_code != accept_status:
                            self._refuse_failure(response)
                        return consume(ResponseBody(response, budget, self._url))
                    trouble = f"answers {response.status_code} {_short(response.reason)}"
            except requests.exceptions.SSLError as error:
                raise RemoteError(
                    f"{self._url}: its certificate is not trusted or TLS fails ({_innermost_message(error)}); have "
                    "REQUESTS_CA_BUNDLE name a file with the certificate of the authority that signed it"
                ) from error
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                trouble = f"cannot be reached, or breaks off ({_innermost_message(error)})"
            except requests.RequestException as error:
                raise RemoteError(f"{self._url}: {_innermost_message(error)}") from error
        raise RemoteError(
            f"{self._url}: {trouble}, {ATTEMPTS} times; is the PACS running, and the address right? "
            "What was fetched is kept"
        )

    def _refuse_failure(self, response: requests.Response) -> None:
        status = response.status_code
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            words = f"redirects to {_target(response)}, which is not followed; give the address itself"
        elif status in (401, 403):
            way_out = "check the user name and password, or the token" if self.auth else "give a user name or a token"
            words = f"refuses us ({status}); {way_out}"
        elif status == 404:
            words = "does not know what was asked for (404); its DICOMweb address often ends in /dicom-web"
        else:
            words = f"answers {status} {_short(response.reason)}"
        raise HttpStatusError(f"{self._url}: {words}", status)


class ResponseBody:
    """The body of a response, to be read once, as it comes."""

    def __init__(self, response: requests.Response, budget: ResponseBudget, url: str) -> None:
        self._response = response
        self._budget = budget
        self._url = url

    @property
    def content_type(self) -> str:
        """Its Content-Type, as it was sent; empty without one."""
        return str(self._response.headers.get("Content-Type", ""))

    @property
    def status(self) -> int:
        """The HTTP status of the response."""
        return self._response.status_code

    def chunks(self) -> Iterator[bytes]:
        """Yield the decoded body.

        Raises:
            AnswerError: It is larger than the budget allows, or packed in a way that is not taken.
        """
        encoding = self._response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise InvalidResponseError(
                f"{self._url}: sends Content-Encoding {_short(encoding)!r}; gzip or none was asked for"
            )
        announced = self._response.headers.get("Content-Length", "")
        if announced.isdecimal() and len(announced) < 20:
            self._budget.refuse_large(int(announced))
        received = 0
        for chunk in self._response.iter_content(READ_CHUNK_BYTES):
            received += len(chunk)
            self._budget.refuse_large(received)
            self._budget.check()
            yield chunk


def _pause(seconds: float, budget: ResponseBudget) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        budget.check()
        time.sleep(min(left, POLL_INTERVAL_S))


def _target(response: requests.Response) -> str:
    try:
        return _short(_origin(urljoin(response.url, response.headers.get("Location", ""))))
    except ValueError:  # no address
        return "elsewhere"


def _short(text: object) -> str:
    """Return a PACS's own words as one short line that any log and response can hold."""
    return " ".join(str(text or "").split()).encode("ascii", "backslashreplace").decode()[:80]


class _Bearer(AuthBase):
    """Signs with a token; as `auth` of the session, so that no .netrc of the machine takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def checked_url(url: str) -> str:
    """Return the address of a DICOMweb service without a slash at its end.

    Raises:
        InputError: No http(s) address, or one with a password in it, which logs and process lists would show.
    """
    expected = "expected the address of a DICOMweb service, such as https://pacs.example/dicom-web"
    try:
        parts = urlsplit(url.strip())
        if parts.username or parts.password:
            raise InputError("the PACS's address holds a user name or password; give them apart from the address")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(f"{url!r}: {expected}")
        _origin(url)
    except ValueError as error:  # a port that is no number, brackets that do not match
        raise InputError(f"{url!r}: {error}; {expected}") from error
    return url.strip().rstrip("/")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _innermost_message(error: BaseException) -> str:
    """Return the message of the innermost of nested errors: the outer ones repeat addresses and objects."""
    seen: set[int] = set()  # a cycle ends where it closes
    while id(error) not in seen:
        seen.add(id(error))
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        inner = inner or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    words = str(error).split(": ", 1)[-1] if "object at 0x" in str(error) else str(error)
    return " ".join(words.split()).encode("ascii", "backslashreplace").decode()[:200]
