"""Parsing of the server address that a user types."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from CT2PETLib.client.errors import ServerUrlError
from CT2PETLib.i18n import _

MAX_REMEMBERED = 8
EXAMPLE = _("expected an address such as http://127.0.0.1:8000 or https://pet.hospital.example")


@dataclass(frozen=True)
class ServerUrl:
    """URL of a server.

    Attributes:
        base: `scheme://host[:port][/path]` without a trailing slash.
        scheme: `http` or `https`.
        host: Name or IP address.
        port: As typed, or the scheme's default.
    """

    base: str
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.base

    @property
    def is_this_machine(self) -> bool:
        """Whether the server runs on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def warning(self) -> str:
        """Warning before a CT or a password is sent; empty if the connection is encrypted or local."""
        if self.scheme == "https" or self.is_this_machine:
            return ""
        return _(
            "The connection to {host} is not encrypted: others on the network can read images and passwords."
        ).format(host=self.host)

    def of(self, *path: str) -> str:
        """Return the URL of a path on the server; each part is quoted, so that none can change the path."""
        return "/".join((self.base, *(quote(part, safe="") for part in path)))


def parse_server_url(text: str) -> ServerUrl:
    """Return the typed address as URL; the default scheme is `http`.

    Raises:
        ServerUrlError: The address is invalid; the message gives the reason.
    """
    address = text.strip()
    if not address:
        raise ServerUrlError(_("The server address is empty: {example}.").format(example=EXAMPLE))
    typed = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as error:
        raise ServerUrlError(
            _("“{address}” is not a server address ({error}): {example}.").format(
                address=address[:100], error=error, example=EXAMPLE
            )
        ) from error
    if parts.username is not None or parts.password is not None:  # it would be shown and remembered
        raise ServerUrlError(_("The address must not contain a user name or password: remove them, and sign in."))
    if parts.scheme not in ("http", "https") or not parts.hostname or any(character.isspace() for character in typed):
        raise ServerUrlError(
            _("“{address}” is not a server address: {example}.").format(address=address[:100], example=EXAMPLE)
        )
    if parts.query or parts.fragment:
        raise ServerUrlError(
            _("“{address}” has a query or fragment: remove everything after ? or #.").format(address=address[:100])
        )
    base = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return ServerUrl(base, parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def remember(history: Sequence[str], address: ServerUrl) -> tuple[str, ...]:
    """Return the addresses to offer next time: this one first, without duplicates, the oldest dropped."""
    others = [known for known in history if known != address.base]
    return (address.base, *others)[:MAX_REMEMBERED]
