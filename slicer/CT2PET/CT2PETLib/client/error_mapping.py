"""Failures of the network and refusals of the server as sentences for the user."""

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
from CT2PETLib.client.server_url import ServerUrl

CANCELLED = "Cancelled."
NO_ANSWER = "no answer"
LONGEST_DETAIL = 600  # signs of the server's own words


def network_fault(error: Exception, address: ServerUrl) -> ServerError:
    """Return what a failed request means for the user."""
    causes = list(_causes(error))
    where = f"{address.host}:{address.port}"
    if any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in causes):
        return _tls_fault(causes, address)
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return UnreachableError(f"The network's proxy does not let requests through to {where}.", "proxy")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UnreachableError(
            f"No machine called {address.host} is known in this network: is the name right, and the network (or VPN) "
            "connected?",
            "unknown name",
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return UnreachableError(
            f"Nobody listens on port {address.port} of {address.host}: is the server started, and the port right?",
            "refused",
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return UnreachableError(
            f"{where} does not answer at all: is the machine on, and does a firewall lie between?", "timeout"
        )
    if any(isinstance(cause, (requests.exceptions.ReadTimeout, socket.timeout)) for cause in causes):
        return UnreachableError(f"{where} took the request and did not answer in time.", NO_ANSWER)
    return UnreachableError(f"The connection to {where} was lost.", "lost")


def refusal(
    status: int,
    content: bytes,
    address: ServerUrl,
    *,
    location: str = "",
    signed_in: bool = False,
    retry_after: str = "",
) -> ServerError:
    """Return what an answer that is no success means for the user.

    Args:
        status: Of HTTP.
        content: The server's words.
        address: Of the server.
        location: Where it sends on to.
        signed_in: A token was sent along.
        retry_after: The header of that name.
    """
    detail = _detail(content)
    if status == 401:
        if signed_in:
            return SignInError("Your sign-in has run out, or was taken back: sign in again.")
        return SignInError("This server asks who you are: sign in with your user name and password.")
    if status == 403:
        return ForbiddenError(f"You may not do this: {detail.rstrip('.') or 'the server does not say why'}.")
    if status == 409:
        return UntrainedError(detail)
    if status in (429, 503):
        words = detail or "The server has as much to do as it takes; try again in a moment."
        return BusyError(words, float(retry_after) if retry_after.isdecimal() else 0.0)
    if 300 <= status < 400:
        return NotCT2PETError(f"{address} only sends on to {location[:200] or 'another address'}: use that one.")
    if status < 500:
        if not detail:
            return NotCT2PETError(f"{address} answers, but is no ct2pet server (status {status}).")
        return RefusedError(detail, status)
    if status in (502, 504) and not detail:  # of something that stands before the server
        return UnreachableError(f"{address.host} answers, but does not reach the server behind it.", "lost")
    return ServerFaultError(detail or f"The server failed (status {status}); its log says why.")


def cancelled() -> CancelledError:
    """Return what a request that the user ended means."""
    return CancelledError(CANCELLED)


def _tls_fault(causes: list[BaseException], address: ServerUrl) -> TLSError:
    certificate = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if certificate:
        return TLSError(
            f"The certificate of {address.host} cannot be trusted ({certificate[0].verify_message}): ask who runs the "
            "server for the file of its certificate authority, and choose it in the settings."
        )
    words = " ".join(str(cause) for cause in causes).lower()
    if "wrong version number" in words or "unknown protocol" in words or "record layer" in words:
        return TLSError(
            f"Port {address.port} of {address.host} does not speak https: does the address begin with http:// ?"
        )
    return TLSError(f"No encrypted connection to {address.host} can be made ({_last_words(causes)}).")


def _last_words(causes: list[BaseException]) -> str:
    reasons = [cause.reason for cause in causes if isinstance(cause, ssl.SSLError) and cause.reason]
    return str(reasons[-1]) if reasons else "reason unknown"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it, wherever `requests` and `urllib3` keep it."""
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args)
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _detail(content: bytes) -> str:
    """Return the panel's message for a problem of the server; empty where the content is not one."""
    try:
        problem = json.loads(content)
    except ValueError:
        return ""
    if not isinstance(problem, dict):
        return ""
    detail = problem.get("detail", "")
    if isinstance(detail, list):  # FastAPI's own validation errors: a list
        detail = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in detail)
    return message_of({**problem, "detail": detail})[:LONGEST_DETAIL]
