"""HTTP transport whose sockets wait in short steps and check the budget of the request in between.

A timeout of `requests` applies from byte to byte, and `http.client` reads entire lines or blocks. Without a budget, a
PACS that sends one byte per second would block its reader for hours.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.poolmanager import PoolManager, ProxyManager
from urllib3.util.wait import wait_for_write

from lib.dicom.remote.budget import ResponseBudget

CONNECT_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.25
SEND_CHUNK_BYTES = 2**16
PENDING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK})

_budget: ContextVar[ResponseBudget] = ContextVar("budget of the current request")


@contextlib.contextmanager
def spending(budget: ResponseBudget) -> Iterator[None]:
    """Count the bytes that this thread sends and receives in the context against a budget."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


class BudgetAdapter(HTTPAdapter):
    """A `requests` adapter whose sockets check the budget; requires the context `spending`."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pool manager with budget sockets."""
        super().init_poolmanager(*args, **kwargs)
        _use_budget_pools(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> ProxyManager:
        """Return the manager of a proxy, with budget sockets."""
        manager = super().proxy_manager_for(*args, **kwargs)
        _use_budget_pools(manager)
        return manager


def _use_budget_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


class _BudgetSocket:
    """A wrapper of a plain or TLS socket that receives and sends in short steps."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def makefile(self, mode: str, *_: object, **__: object) -> io.BufferedReader:
        """Return a file that reads from the socket; the socket stays open until both are closed."""
        return io.BufferedReader(_SocketReader(self._sock, self._sock.makefile(mode, buffering=0)))  # type: ignore[call-overload]

    def sendall(self, content: bytes) -> None:
        """Send all bytes within the budget."""
        budget = _budget.get()
        with memoryview(content) as view, view.cast("B") as remaining:
            sent = 0
            while sent < len(remaining):
                budget.check()
                self._sock.settimeout(POLL_INTERVAL_S)
                with contextlib.suppress(TimeoutError):
                    count = self._sock.send(remaining[sent : sent + SEND_CHUNK_BYTES])
                    budget.note_transfer(count)
                    sent += count


class _SocketReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, keeps_open: io.RawIOBase) -> None:
        self._sock = sock
        self._keeps_open = keeps_open  # the socket counts its files and closes after the last one

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive bytes into a buffer within the budget; return their number."""
        budget = _budget.get()
        while True:
            budget.check()
            self._sock.settimeout(POLL_INTERVAL_S)
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                continue
            budget.note_transfer(count)
            return count

    def close(self) -> None:
        """Close the file, and with it the socket after its last file."""
        self._keeps_open.close()
        super().close()


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        """Return a connected socket, waiting in short steps."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        error_found = OSError(errno.EADDRNOTAVAIL, "no address")
        for family, kind, protocol, _, address in found:
            with contextlib.ExitStack() as undo:
                sock = socket.socket(family, kind, protocol)
                undo.callback(sock.close)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                try:
                    _connect(sock, address)
                except OSError as error:
                    error_found = error
                    continue
                undo.pop_all()
                return sock
        if isinstance(error_found, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection within {CONNECT_TIMEOUT_S:.0f} s") from error_found
        raise NewConnectionError(self, str(error_found)) from error_found

    def connect(self) -> None:
        """Connect, and wrap the socket with the budget checks."""
        super().connect()
        self.sock = _BudgetSocket(self.sock)


class _TLSConnection(HTTPSConnection):
    _new_conn = _Connection._new_conn

    def connect(self) -> None:
        """Connect, and wrap the socket with the budget checks."""
        super().connect()
        self.sock = _BudgetSocket(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _connect(sock: socket.socket, address: Any) -> None:
    budget = _budget.get()
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    sock.setblocking(False)
    code = sock.connect_ex(address)
    while code in PENDING:
        budget.check()
        if wait_for_write(sock, POLL_INTERVAL_S):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        elif time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    if code:
        raise OSError(code, os.strerror(code))
    sock.settimeout(CONNECT_TIMEOUT_S)  # of the TLS handshake
