"""Connections that send nothing: closed after a while, so that they do not use up the files that the server may open.

uvicorn waits for the head of a request without limit.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 30.0  # a connection without a request is closed after one to two of these
MAX_OPEN_FILES = 65_536
MARK = "_ct2pet_watched"


def close_idle_connections() -> None:
    """Watch every connection from now on; called once more, it changes nothing."""
    if hasattr(H11Protocol, MARK):
        return
    made = H11Protocol.connection_made

    def connection_made(protocol: H11Protocol, transport: Any) -> None:
        made(protocol, transport)
        protocol.loop.call_later(HEAD_TIMEOUT_S, _watch, protocol, protocol.cycle)

    H11Protocol.connection_made = connection_made  # type: ignore[method-assign, assignment]
    setattr(H11Protocol, MARK, True)


def raise_open_files_limit() -> None:
    """Let this process open as many files and connections as its hard limit allows; 1,024 is a common soft limit."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


def _watch(protocol: H11Protocol, last_request: object) -> None:
    """Close a connection that was idle at the last check, and still is."""
    if protocol.transport.is_closing():
        return
    request = protocol.cycle
    waits = request is None or request.response_complete
    if waits and request is last_request:
        protocol.transport.close()
        return
    seen = request if waits else object()
    protocol.loop.call_later(HEAD_TIMEOUT_S, _watch, protocol, seen)
