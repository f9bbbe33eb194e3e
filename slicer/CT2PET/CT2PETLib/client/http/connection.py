"""Connection test: whether an address is that of a usable server, with a specific message for each failure."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from CT2PETLib.client.errors import (
    ForbiddenError,
    NotCT2PETError,
    RefusedError,
    ServerError,
    SignInError,
    TLSError,
    UnreachableError,
)
from CT2PETLib.client.http.error_mapping import NO_RESPONSE
from CT2PETLib.client.http.server_url import ServerUrl
from CT2PETLib.client.http.transport import NO_RETRY, Transport
from CT2PETLib.client.schemas import Server, read_server
from CT2PETLib.i18n import _
from CT2PETLib.version import version_note

OK = "ok"
UNREACHABLE = "unreachable"
TLS = "tls"
SIGN_IN = "sign in"
FORBIDDEN = "forbidden"
NOT_CT2PET = "not ct2pet"
UNTRAINED = "untrained"
FAILED = "failed"  # a ct2pet server that fails
KINDS = (
    (UnreachableError, UNREACHABLE),
    (TLSError, TLS),
    (SignInError, SIGN_IN),
    (ForbiddenError, FORBIDDEN),
    (NotCT2PETError, NOT_CT2PET),
)
RESPONSE_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Connection:
    """Outcome of a connection test.

    Attributes:
        kind: `ok`, `unreachable`, `tls`, `sign in`, `forbidden`, `not ct2pet`, `untrained` or `failed`.
        sentence: For the user.
        server: The server's description of itself, if it is a ct2pet server.
    """

    kind: str
    message: str
    server: Server | None = None

    @property
    def is_usable(self) -> bool:
        """Whether studies can be listed, and models trained or used."""
        return self.kind in (OK, UNTRAINED)


def check_connection(transport: Transport) -> Connection:
    """Return the outcome of a connection test; failures are part of the result, nothing is raised."""
    try:
        response = transport.request("GET", "info", "", retry_policy=NO_RETRY, timeout_s=RESPONSE_TIMEOUT_S)
        server = read_server(response.content, transport.address.base)
    except ServerError as error:
        tls = _detect_tls(transport.address) if _may_be_tls(error, transport.address) else None
        return tls or _no_connection(error, transport)
    if not server.trained:
        names = ", ".join(model.name for model in server.models) or "none"
        message = _(
            "Connected to ct2pet {version}, but no model is trained yet ({names}): train one below, or ask "
            "the administrator of the server to install one."
        ).format(version=server.version, names=names)
        return Connection(UNTRAINED, f"{message} {version_note(server.version)}".strip(), server)
    names = ", ".join(model.name for model in server.trained)
    count = _("1 CT") if server.studies == 1 else _("{studies} CTs").format(studies=server.studies)
    message = _("Connected to ct2pet {version}: {count}, {pairs} with a real PET; trained: {names}.").format(
        version=server.version, count=count, pairs=server.pairs, names=names
    )
    notes = filter(None, (message, version_note(server.version), transport.address.warning))
    return Connection(OK, " ".join(notes), server)


def _no_connection(error: ServerError, transport: Transport) -> Connection:
    kind = next((kind for of, kind in KINDS if isinstance(error, of)), FAILED)
    if isinstance(error, RefusedError) and error.status == 404:
        return Connection(
            NOT_CT2PET,
            _("{address} responds, but is not a ct2pet server: check the address.").format(address=transport.address),
        )
    return Connection(kind, str(error))


def _may_be_tls(error: ServerError, address: ServerUrl) -> bool:
    return address.scheme == "http" and isinstance(error, UnreachableError) and error.why in ("lost", NO_RESPONSE)


def _detect_tls(address: ServerUrl) -> Connection | None:
    """Return the outcome for a server that accepts TLS only; None if it does not accept TLS either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # no data is sent: this only detects TLS
    try:
        plain = socket.create_connection((address.host, address.port), timeout=HANDSHAKE_TIMEOUT_S)
        with plain, context.wrap_socket(plain, server_hostname=address.host):
            pass
    except (OSError, ValueError):
        return None
    return Connection(
        TLS,
        _("{host}:{port} accepts https only: begin the address with https://").format(
            host=address.host, port=address.port
        ),
    )
