"""Conversion of network failures and error responses to errors with messages for the user."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator

import requests

from CT2PETLib.client.error_messages import message_of
from CT2PETLib.client.errors import (
    BusyError,
    CancelledError,
    ForbiddenError,
    NotCT2PETError,
    RefusedError,
    ServerError,
    ServerFaultError,
    SignInError,
    TLSError,
    UnreachableError,
    UntrainedError,
)
from CT2PETLib.client.http.server_url import ServerUrl

CANCELLED = "Cancelled."
NO_RESPONSE = "no response"
MAX_DETAIL_CHARACTERS = 600


def network_error(error: Exception, address: ServerUrl) -> ServerError:
    """Return the error for a request that failed without a response."""
    causes = list(_causes(error))
    where = f"{address.host}:{address.port}"
    if any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in causes):
        return _tls_error(causes, address)
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return UnreachableError(f"The network's proxy does not forward requests to {where}.", "proxy")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UnreachableError(
            f"No host named {address.host} is known in this network: check the name, and the connection to the network "
            "(or VPN).",
            "unknown name",
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return UnreachableError(
            f"Connection refused on port {address.port} of {address.host}: check that the server is running, and the "
            "port.",
            "refused",
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return UnreachableError(
            f"No connection to {where}: check that the machine is on, and that no firewall blocks it.", "timeout"
        )
    if any(isinstance(cause, (requests.exceptions.ReadTimeout, socket.timeout)) for cause in causes):
        return UnreachableError(f"{where} accepted the request, but did not respond in time.", NO_RESPONSE)
    return UnreachableError(f"The connection to {where} was lost.", "lost")


def response_error(
    status: int,
    content: bytes,
    address: ServerUrl,
    *,
    location: str = "",
    signed_in: bool = False,
    retry_after: str = "",
) -> ServerError:
    """Return the error for an unsuccessful response.

    Args:
        status: HTTP status.
        content: Body of the response.
        address: URL of the server.
        location: The Location header.
        signed_in: Whether the request had a token.
        retry_after: The Retry-After header.
    """
    detail = _detail(content)
    if status == 401:
        if signed_in:
            return SignInError("Your sign-in has expired or was revoked: sign in again.")
        return SignInError("This server requires authentication: sign in with your user name and password.")
    if status == 403:
        return ForbiddenError(f"Not permitted: {detail.rstrip('.') or 'the server gives no reason'}.")
    if status == 409:
        return UntrainedError(detail)
    if status in (429, 503):
        message = detail or "The server is busy; try again in a moment."
        return BusyError(message, float(retry_after) if retry_after.isdecimal() else 0.0)
    if 300 <= status < 400:
        return NotCT2PETError(f"{address} redirects to {location[:200] or 'another address'}: use that address.")
    if status < 500:
        if not detail:
            return NotCT2PETError(f"{address} responds, but is not a ct2pet server (status {status}).")
        return RefusedError(detail, status)
    if status in (502, 504) and not detail:  # from a reverse proxy
        return UnreachableError(f"The reverse proxy at {address.host} cannot reach the server.", "lost")
    return ServerFaultError(detail or f"Internal error of the server (status {status}); see its log.")


def cancelled() -> CancelledError:
    """Return the error for a request that the user cancelled."""
    return CancelledError(CANCELLED)


def _tls_error(causes: list[BaseException], address: ServerUrl) -> TLSError:
    certificate = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if certificate:
        return TLSError(
            f"The certificate of {address.host} is not trusted ({certificate[0].verify_message}): ask the "
            "administrator of the server for the file of its certificate authority, and choose it in section 1."
        )
    text = " ".join(str(cause) for cause in causes).lower()
    if "wrong version number" in text or "unknown protocol" in text or "record layer" in text:
        return TLSError(f"Port {address.port} of {address.host} does not accept https: begin the address with http://")
    return TLSError(f"The encrypted connection to {address.host} failed ({_last_reason(causes)}).")


def _last_reason(causes: list[BaseException]) -> str:
    reasons = [cause.reason for cause in causes if isinstance(cause, ssl.SSLError) and cause.reason]
    return str(reasons[-1]) if reasons else "reason unknown"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all of its causes, wherever `requests` and `urllib3` store them."""
    queue, seen = [error], set()
    while queue:
        cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        queue += [one for one in inner if isinstance(one, BaseException)]


def _detail(content: bytes) -> str:
    """Return the panel's message for the problem details in a response; empty if it has none."""
    try:
        problem = json.loads(content)
    except ValueError:
        return ""
    if not isinstance(problem, dict):
        return ""
    detail = problem.get("detail", "")
    if isinstance(detail, list):  # FastAPI's own validation errors: a list
        detail = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in detail)
    return message_of({**problem, "detail": detail})[:MAX_DETAIL_CHARACTERS]
