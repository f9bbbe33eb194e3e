"""The accepted host names of this server, and strict parsing of the Host and Origin headers.

A page of another site can make a browser send requests to this server by pointing a name of its own at the server's
address (DNS rebinding). The Host header then holds that name. An IP address in its place cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

AUTHORITY = re.compile(r"(\[[0-9a-f:.]+(?:%(?:25)?[\w.-]+)?\]|\w[\w.-]{0,252})(?::(\d{1,5}))?", re.ASCII)
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535

Authority = tuple[str, int | None]


def parse_authority(text: str) -> Authority | None:
    """Return name and port of `name[:port]`, lower case and without brackets; None for anything else."""
    found = AUTHORITY.fullmatch(text.lower())
    if found is None or int(found[2] or 0) > MAX_PORT:
        return None
    name = found[1].removesuffix(".")
    if name.startswith("["):
        name = name[1:-1].replace("%25", "%")
        if not is_ip_address(name):
            return None
    return name, int(found[2]) if found[2] else None


def is_ip_address(name: str) -> bool:
    """Return whether a name is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_origin(origin: str, host: Authority) -> bool:
    """Return whether the Origin header names the host that the request was sent to."""
    scheme, separator, rest = origin.partition("://")
    authority = parse_authority(rest)
    if not separator or scheme.lower() not in DEFAULT_PORTS or authority is None:
        return False
    default = DEFAULT_PORTS[scheme.lower()]
    return (authority[0], authority[1] or default) == (host[0], host[1] or default)


def host_names(origins: Iterable[str], *, resolve: bool) -> frozenset[str]:
    """Return the accepted host names of the server, besides IP addresses.

    Args:
        origins: Allowed origins; their hosts count, too: a reverse proxy passes on the name that its clients use.
        resolve: Whether to look up the fully qualified name of this machine, which can take seconds.
    """
    own = {"localhost", socket.gethostname(), *([socket.getfqdn()] if resolve else [])}
    authorities = [parse_authority(name) for name in (*own, *(origin.partition("://")[2] for origin in origins))]
    return frozenset(authority[0] for authority in authorities if authority is not None)
