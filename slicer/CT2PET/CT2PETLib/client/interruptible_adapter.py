"""Connections that another thread can cut while one waits for an answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any

from requests.adapters import HTTPAdapter


class InterruptibleAdapter(HTTPAdapter):
    """Remembers the sockets of its connections, so that another thread can cut one on which this thread waits.

    Closing the session does not wake a thread that waits for an answer; shutting its socket down does.
    """

    def __init__(self, interrupted: threading.Event) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._interrupted = interrupted
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        self._watch(manager)
        return manager

    def cut(self) -> None:
        """Shut all connections down."""
        with self._lock:
            open_sockets = list(self._sockets)
        for connected in open_sockets:
            _shut(connected)

    def _watch(self, manager: Any) -> None:
        pools = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: self._watched(pool) for scheme, pool in pools.items()}

    def _watched(self, pool: Any) -> Any:
        adapter, made = self, pool.ConnectionCls
        if getattr(made, "is_watched", False):
            return pool

        class Connection(made):  # type: ignore[misc,valid-type]
            """A connection whose socket is remembered."""

            is_watched = True

            def connect(self) -> None:
                """Connect."""
                super().connect()
                adapter._remember(self.sock)

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    def _remember(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connected)
        if self._interrupted.is_set():  # cut() may have been just before
            _shut(connected)


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # past SSLSocket.shutdown, which would take the TLS state away from the thread that reads
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
