"""Connections that another thread can interrupt while one waits for a response."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any

from requests.adapters import HTTPAdapter


class InterruptibleAdapter(HTTPAdapter):
    """An adapter that keeps track of its sockets, so that another thread can shut one down while this thread waits.

    Closing the session does not wake a thread that waits for a response; shutting its socket down does.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._interrupted = interrupted
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._track_pools(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        self._track_pools(manager)
        return manager

    def interrupt(self) -> None:
        """Shut down all connections."""
        with self._lock:
            open_sockets = list(self._sockets)
        for connection in open_sockets:
            _shut_down(connection)

    def _track_pools(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: self._tracked(pool) for scheme, pool in pools.items()}

    def _tracked(self, pool: Any) -> Any:
        adapter, connection_class = self, pool.ConnectionCls
        if getattr(connection_class, "is_tracked", False):
            return pool

        class Connection(connection_class):  # type: ignore[misc,valid-type]
            """A connection whose socket is tracked."""

            is_tracked = True

            def connect(self) -> None:
                """Connect."""
                super().connect()
                adapter._track(self.sock)

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def _track(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
        if self._interrupted.is_set():  # interrupt() may have been called just before
            _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # not SSLSocket.shutdown, which would drop the TLS state that the reading thread uses
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
