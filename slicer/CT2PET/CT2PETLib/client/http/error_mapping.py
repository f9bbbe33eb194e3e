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
from CT2PETLib.i18n import _

CANCELLED = _("Cancelled.")
NO_RESPONSE = "no response"
MAX_DETAIL_CHARACTERS = 600
ROLE_PREFIX = "monailabel-"  # of the roles in the server's texts


def network_error(error: Exception, address: ServerUrl) -> ServerError:
    """Return the error for a request that failed without a response."""
    causes = list(_causes(error))
    where = f"{address.host}:{address.port}"
    if any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in causes):
        return _tls_error(causes, address)
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return UnreachableError(
            _("The network's proxy does not forward requests to {where}.").format(where=where), "proxy"
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return UnreachableError(
            _(
                "No host named {host} is known in this network: check the name, and the connection to the "
                "network (or VPN)."
            ).format(host=address.host),
            "unknown name",
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return UnreachableError(
            _("Connection refused on port {port} of {host}: check that the server is running, and the port.").format(
                port=address.port, host=address.host
            ),
            "refused",
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return UnreachableError(
            _("No connection to {where}: check that the machine is on, and that no firewall blocks it.").format(
                where=where
            ),
            "timeout",
        )
    if any(isinstance(cause, (requests.exceptions.ReadTimeout, socket.timeout)) for cause in causes):
        return UnreachableError(
            _("{where} accepted the request, but did not respond in time.").format(where=where), NO_RESPONSE
        )
    return UnreachableError(_("The connection to {where} was lost.").format(where=where), "lost")


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
            return SignInError(_("Your sign-in has expired or was revoked: sign in again."))
        return SignInError(_("This server requires authentication: sign in with your user name and password."))
    if status == 403:
        return ForbiddenError(_not_permitted(detail))
    if status == 409:
        return UntrainedError(detail)
    if status in (429, 503):
        message = detail or _("The server is busy; try again in a moment.")
        return BusyError(message, float(retry_after) if retry_after.isdecimal() else 0.0)
    if 300 <= status < 400:
        return NotCT2PETError(
            _("{address} redirects to {location}: use that address.").format(
                address=address, location=location[:200] or _("another address")
            )
        )
    if status < 500:
        if not detail:
            return NotCT2PETError(
                _("{address} responds, but is not a ct2pet server (status {status}).").format(
                    address=address, status=status
                )
            )
        return RefusedError(detail, status)
    if status in (502, 504) and not detail:  # from a reverse proxy
        return UnreachableError(
            _("The reverse proxy at {host} cannot reach the server.").format(host=address.host), "lost"
        )
    return ServerFaultError(
        detail or _("Internal error of the server (status {status}); see its log.").format(status=status)
    )


def cancelled() -> CancelledError:
    """Return the error for a request that the user cancelled."""
    return CancelledError(CANCELLED)


def _not_permitted(detail: str) -> str:
    """Return the message of a refusal; roles have the names by which accounts are made, such as admin."""
    reason = detail.replace(ROLE_PREFIX, "").rstrip(".") or _("the server gives no reason")
    return _("Not permitted: {reason}.").format(reason=reason)


def _tls_error(causes: list[BaseException], address: ServerUrl) -> TLSError:
    certificate = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if certificate:
        return TLSError(
            _(
                "The certificate of {host} is not trusted ({verify_message}): ask the administrator of the "
                "server for the file of its certificate authority, and choose it in section 1."
            ).format(host=address.host, verify_message=certificate[0].verify_message)
        )
    text = " ".join(str(cause) for cause in causes).lower()
    if "wrong version number" in text or "unknown protocol" in text or "record layer" in text:
        return TLSError(
            _("Port {port} of {host} does not accept https: begin the address with http://").format(
                port=address.port, host=address.host
            )
        )
    return TLSError(
        _("The encrypted connection to {host} failed ({last_reason}).").format(
            host=address.host, last_reason=_last_reason(causes)
        )
    )


def _last_reason(causes: list[BaseException]) -> str:
    reasons = [cause.reason for cause in causes if isinstance(cause, ssl.SSLError) and cause.reason]
    return str(reasons[-1]) if reasons else _("reason unknown")


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
