"""The address of a server, as a user types it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from CT2PETLib.client.errors import ServerUrlError

MAX_REMEMBERED = 8
EXAMPLE = "give it as http://127.0.0.1:8000 or https://pet.hospital.example"


@dataclass(frozen=True)
class ServerUrl:
    """Where a server is.

    Attributes:
        base: `scheme://host[:port][/path]` without a slash at the end.
        scheme: `http` or `https`.
        host: Name or number.
        port: Given, or that of the scheme.
    """

    base: str
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.base

    @property
    def is_this_machine(self) -> bool:
        """Whether what is sent stays on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def warning(self) -> str:
        """What a user must know before a CT or a password is sent there; empty where there is nothing."""
        if self.scheme == "https" or self.is_this_machine:
            return ""
        return f"The connection to {self.host} is not encrypted: others in the network can read images and passwords."

    def of(self, *path: str) -> str:
        """Return the address of a path on the server; each part is quoted, so that none leads elsewhere."""
        return "/".join((self.base, *(quote(part, safe="") for part in path)))


def parse_server_url(text: str) -> ServerUrl:
    """Return the address that was typed; `http` is meant where no scheme is given.

    Raises:
        AddressError: It is none; the sentence says why.
    """
    words = text.strip()
    if not words:
        raise ServerUrlError(f"There is no server address yet: {EXAMPLE}.")
    typed = words if "://" in words else f"http://{words}"
    try:
        parts = urlsplit(typed)
        port = parts.port
    except ValueError as error:
        raise ServerUrlError(f"{words[:100]} is no server address ({error}): {EXAMPLE}.") from error
    if parts.username is not None or parts.password is not None:  # it would be shown and remembered
        raise ServerUrlError("A user name and password do not belong into the address: leave them out, and sign in.")
    if parts.scheme not in ("http", "https") or not parts.hostname or any(sign.isspace() for sign in typed):
        raise ServerUrlError(f"{words[:100]} is no server address: {EXAMPLE}.")
    if parts.query or parts.fragment:
        raise ServerUrlError(f"{words[:100]} is more than a server address: leave out what follows ? or #.")
    base = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return ServerUrl(base, parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def remember(history: Sequence[str], address: ServerUrl) -> tuple[str, ...]:
    """Return the addresses to offer next time: this one first, each once, the oldest forgotten."""
    others = [known for known in history if known != address.base]
    return (address.base, *others)[:MAX_REMEMBERED]
