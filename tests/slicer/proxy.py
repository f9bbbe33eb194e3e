"""A TCP proxy that simulates network failures: it delays, throttles, holds and interrupts connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

CHUNK_BYTES = 1 << 14


class Proxy:
    """Forwards bytes; its attributes may be changed while it runs, and apply to the next chunk.

    Attributes:
        target: (host, port) of the server.
        latency_s: Delay before each chunk of a response.
        bytes_per_s, upload_bytes_per_s: Rate of responses and of requests; 0 for no limit.
        cuts: Number of bytes after which the response of each of the next connections is interrupted.
        holding: While set, responses are held back.
        connections: Number of accepted connections.
    """

    def __init__(self, target: tuple[str, int], *, tls: ssl.SSLContext | None = None) -> None:
        self.target = target
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.upload_bytes_per_s = 0
        self.cuts: list[int] = []
        self.holding = threading.Event()
        self.connections = 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._ended = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self._listening.getsockname()[1])

    @property
    def url(self) -> str:
        """Its URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def cut_all(self) -> None:
        """Interrupt all open connections."""
        with self._lock:
            connected = list(self._open)
        for one in connected:
            _end(one)

    def close(self) -> None:
        """Stop listening, and interrupt all connections."""
        self._ended = True
        self.holding.clear()
        _end(self._listening)
        self._listening.close()
        self.cut_all()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), name="proxy connection", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if self._tls is not None:
                client = stack.enter_context(self._tls.wrap_socket(client, server_side=True))
            server = stack.enter_context(socket.create_connection(self.target, timeout=5))
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            onward = threading.Thread(target=self._pass_on, args=(client, server), daemon=True)
            onward.start()
            self._pass_back(server, client)
            onward.join()
            with self._lock:
                self._open -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(CHUNK_BYTES):
                server.sendall(piece)
                if self.upload_bytes_per_s:
                    time.sleep(len(piece) / self.upload_bytes_per_s)
        _end(server)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        passed, cut_after = 0, -1
        with contextlib.suppress(OSError):
            while piece := server.recv(CHUNK_BYTES):
                if not passed and self.cuts:
                    cut_after = self.cuts.pop(0)
                while self.holding.is_set():
                    time.sleep(0.01)
                time.sleep(self.latency_s + (len(piece) / self.bytes_per_s if self.bytes_per_s else 0.0))
                if 0 <= cut_after < passed + len(piece):
                    client.sendall(piece[: cut_after - passed])
                    break
                client.sendall(piece)
                passed += len(piece)
        _end(client)
        _end(server)


@contextlib.contextmanager
def proxy_before(url: str, *, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy in front of a server with a URL such as http://127.0.0.1:8000."""
    host, port = url.rpartition("/")[2].split(":")
    proxy = Proxy((host, int(port)), tls=tls)
    try:
        yield proxy
    finally:
        proxy.close()


def _end(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
