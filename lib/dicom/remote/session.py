"""The HTTP of a PACS: one host and no other, certificates verified, time limits, repeated where that can help.

``dicomweb-client`` speaks DICOMweb over a session that it is given; left to itself it waits for ever, follows
redirects anywhere and tells trouble as tracebacks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from lib.errors import InputError, RemoteError

CONNECT_WITHIN_S = 5.0
SILENT_AT_MOST_S = 60.0  # between two pieces of an answer; a PACS may fetch an old study from tape first
ATTEMPTS = 4
FIRST_PAUSE_S = 0.5  # doubled each time: 3.5 s in all, enough for a PACS that restarts
PASSING = frozenset({408, 425, 429, 502, 503, 504})  # HTTP statuses that another attempt may not meet again
CONNECTIONS = 8


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
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Return a successful answer, read to its end.

        Raises:
            HttpStatusError: An answer that is no success.
            RemoteError: No answer, half an answer, a certificate that is not trusted, another host.
        """
        if _origin(str(url)) != self._origin:
            raise RemoteError(f"{self._url}: would have to ask {_origin(str(url))}, which is another host; not done")
        # dicomweb-client names the host without its port; requests knows better
        kwargs["headers"] = {key: word for key, word in (kwargs.get("headers") or {}).items() if key != "Host"}
        kwargs |= {"timeout": (CONNECT_WITHIN_S, SILENT_AT_MOST_S), "allow_redirects": False, "stream": False}
        trouble = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                answer = super().request(method, url, *args, **kwargs)
            except requests.exceptions.SSLError as error:
                raise RemoteError(
                    f"{self._url}: its certificate is not trusted or TLS fails ({_innermost_message(error)}); have "
                    "REQUESTS_CA_BUNDLE name a file with the certificate of the authority that signed it"
                ) from error
            except requests.exceptions.ReadTimeout as error:
                raise RemoteError(
                    f"{self._url}: no answer within {SILENT_AT_MOST_S:.0f} s; is the PACS busy?"
                ) from error
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                trouble = f"cannot be reached, or breaks off ({_innermost_message(error)})"
            except requests.RequestException as error:
                raise RemoteError(f"{self._url}: {_innermost_message(error)}") from error
            else:
                if answer.status_code not in PASSING:
                    return self._successful(answer)
                trouble = f"answers {answer.status_code} {answer.reason}"
        raise RemoteError(
            f"{self._url}: {trouble}, {ATTEMPTS} times; is the PACS running, and the address right? "
            "What was fetched is kept"
        )

    def _successful(self, answer: requests.Response) -> requests.Response:
        status = answer.status_code
        if 200 <= status < 300:
            return answer
        if 300 <= status < 400:
            target = _origin(requests.compat.urljoin(answer.url, answer.headers.get("Location", "")))
            words = f"redirects to {target}, which is not followed; give the address itself"
        elif status in (401, 403):
            way_out = "check the user name and password, or the token" if self.auth else "give a user name or a token"
            words = f"refuses us ({status}); {way_out}"
        elif status == 404:
            words = "does not know what was asked for (404); its DICOMweb address often ends in /dicom-web"
        else:
            words = f"answers {status} {answer.reason}"
        raise HttpStatusError(f"{self._url}: {words}", status)


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
    return " ".join(words.split())[:200]
