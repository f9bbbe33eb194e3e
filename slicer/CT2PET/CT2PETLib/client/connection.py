"""Whether an address leads to a server that can be used, in one sentence: a different one for each way it may not."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from CT2PETLib.client.error_mapping import NO_ANSWER
from CT2PETLib.client.errors import (
    ForbiddenError,
    NotCT2PETError,
    RefusedError,
    ServerError,
    SignInError,
    TLSError,
    UnreachableError,
)
from CT2PETLib.client.schemas import Server, read_server
from CT2PETLib.client.server_url import ServerUrl
from CT2PETLib.client.transport import NONE, Transport

OK = "ok"
UNREACHABLE = "unreachable"
TLS = "tls"
SIGN_IN = "sign in"
FORBIDDEN = "forbidden"
NOT_CT2PET = "not ct2pet"
UNTRAINED = "untrained"
FAILED = "failed"  # the server is one of ours, and fails
KINDS = (
    (UnreachableError, UNREACHABLE),
    (TLSError, TLS),
    (SignInError, SIGN_IN),
    (ForbiddenError, FORBIDDEN),
    (NotCT2PETError, NOT_CT2PET),
)
ANSWER_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Connection:
    """What came of an attempt to reach a server.

    Attributes:
        kind: `ok`, `unreachable`, `tls`, `sign in`, `forbidden`, `not ct2pet`, `untrained` or `failed`.
        sentence: For the user.
        server: What it says of itself, where it is one of ours.
    """

    kind: str
    sentence: str
    server: Server | None = None

    @property
    def is_usable(self) -> bool:
        """Whether studies can be listed, and models trained or asked."""
        return self.kind in (OK, UNTRAINED)


def check_connection(wire: Transport) -> Connection:
    """Return what is at the other end; whatever is wrong is in the answer, nothing is raised."""
    try:
        answer = wire.ask("GET", "info", "", retry_policy=NONE, timeout_s=ANSWER_TIMEOUT_S)
        server = read_server(answer.content, wire.address.base)
    except ServerError as error:
        found = _speaks_tls(wire.address) if _may_be_tls(error, wire.address) else None
        return found or _no_connection(error, wire)
    if not server.trained:
        names = ", ".join(model.name for model in server.models) or "none"
        return Connection(
            UNTRAINED,
            f"Connected to ct2pet {server.version}, but no model is trained yet ({names}): train one below, or ask who "
            "runs the server to put one there.",
            server,
        )
    names = ", ".join(model.name for model in server.trained)
    told = f"Connected to ct2pet {server.version}: {server.studies} CT(s), {server.pairs} with a real PET; {names}."
    return Connection(OK, f"{told} {wire.address.warning}".strip(), server)


def _no_connection(error: ServerError, wire: Transport) -> Connection:
    kind = next((kind for of, kind in KINDS if isinstance(error, of)), FAILED)
    if isinstance(error, RefusedError) and error.status == 404:
        return Connection(NOT_CT2PET, f"{wire.address} answers, but is no ct2pet server: is the address right?")
    if isinstance(error, RefusedError) and error.status == 400 and "https" in str(error).lower():
        return Connection(TLS, f"{wire.address.host} wants an encrypted connection: begin the address with https://")
    return Connection(kind, str(error))


def _may_be_tls(error: ServerError, address: ServerUrl) -> bool:
    return address.scheme == "http" and isinstance(error, UnreachableError) and error.why in ("lost", NO_ANSWER)


def _speaks_tls(address: ServerUrl) -> Connection | None:
    """Return the sentence for a server that answers an encrypted greeting only; None where it does not either."""
    greeting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    greeting.check_hostname = False
    greeting.verify_mode = ssl.CERT_NONE  # nothing is sent: this asks only whether TLS is spoken
    try:
        plain = socket.create_connection((address.host, address.port), timeout=HANDSHAKE_TIMEOUT_S)
        with plain, greeting.wrap_socket(plain, server_hostname=address.host):
            pass
    except (OSError, ValueError):
        return None
    return Connection(TLS, f"{address.host}:{address.port} speaks https only: begin the address with https://")
