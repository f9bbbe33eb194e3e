"""pynetdicom's transport with limits that it lacks, for connections from others.

pynetdicom 2.1 reads a PDU of any announced length (up to 4 GiB) into memory, waits for ever for the rest of a PDU,
collects a data set of any size, and completes a TLS handshake in the thread that accepts connections. All four let a
peer without any permission stop a server, see https://github.com/pydicom/pynetdicom/issues/1086.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from lib.dicom.network.limits import NetworkLimits

HEADER_BYTES = 6  # of a PDU: type, reserved, length (PS3.8 9.3.1)
PDU_TYPES = frozenset(range(1, 8))
P_DATA = 4
MAX_PDU_BYTES = 2**20  # of programs that exceed the announced maximum; an association request takes some kilobytes
MAX_COMMAND_BYTES = 2**16  # a command set takes some hundred bytes
MAX_PENDING_MESSAGES = 4  # without asynchronous operations, which are not negotiated, a peer waits for each response
MAX_HANDSHAKES = 32  # TLS, at the same time
MAX_WAITING = 64  # connections that have not requested an association yet
MAX_WAITING_OF_ONE_ADDRESS = 8
CHUNK_BYTES = 2**16
PDV_HEAD = struct.Struct(">LBB")  # length, context, control header (PS3.8 9.3.5.1)
IS_COMMAND, IS_LAST = 1, 2


class LimitedSocket(AssociationSocket):
    """The socket of one association; closes the connection where the peer exceeds a limit.

    Attributes:
        excess: Which limit the peer exceeded; empty if none.
    """

    def __init__(self, association: Association, limits: NetworkLimits, *, client_socket: socket.socket) -> None:
        super().__init__(association, client_socket=client_socket)
        self._limits = limits
        self._pdu_type = 0  # of the PDU whose body is read next; 0 if its header is
        self._command_bytes = self._dataset_bytes = 0
        self.excess = ""

    def recv(self, nr_bytes: int) -> bytearray:
        """Return the next bytes: the header of a PDU, or its body.

        Raises:
            OSError: The peer exceeds a limit, or sends too slowly.
        """
        if nr_bytes > max(MAX_PDU_BYTES, self._limits.max_pdu_bytes):
            raise self.refuse(f"a PDU of {nr_bytes} bytes")
        received = self._read(nr_bytes)
        if self._pdu_type:
            if self._pdu_type == P_DATA:
                self._count(received)
            self._pdu_type = 0
        elif len(received) == HEADER_BYTES and received[0] in PDU_TYPES:
            self._pdu_type = received[0]
        return received

    def _read(self, count: int) -> bytearray:
        connection, received = self.socket, bytearray()
        if connection is None:
            raise ConnectionAbortedError("closed")
        deadline = time.monotonic() + self._limits.network_timeout_s
        while len(received) < count:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self.refuse(f"a PDU that takes more than {self._limits.network_timeout_s:g} s")
            connection.settimeout(left_s)
            piece = connection.recv(min(CHUNK_BYTES, count - len(received)))
            if not piece:
                break
            received += piece
        connection.settimeout(self._limits.network_timeout_s)  # of what is sent
        return received

    def _count(self, body: bytearray) -> None:
        """Count the bytes of the current message; fragments of one message follow each other (PS3.8 annex E)."""
        if self.assoc.dimse.msg_queue.qsize() > MAX_PENDING_MESSAGES:
            raise self.refuse("requests before the responses to earlier ones")
        at = 0
        while at + PDV_HEAD.size <= len(body):
            length, _, control = PDV_HEAD.unpack_from(body, at)
            size, at = length - 2, at + 4 + length
            if control & IS_COMMAND:
                self._command_bytes += size
                if self._command_bytes > MAX_COMMAND_BYTES:
                    raise self.refuse("a command set that does not end")
                self._command_bytes = 0 if control & IS_LAST else self._command_bytes
            else:
                self._dataset_bytes += size
                if self._dataset_bytes > self._limits.max_instance_bytes:
                    raise self.refuse(f"a data set of more than {self._limits.max_instance_bytes} bytes")
                self._dataset_bytes = 0 if control & IS_LAST else self._dataset_bytes

    def refuse(self, what: str) -> ConnectionAbortedError:
        """Shut the connection down and return an error to raise, which pynetdicom takes for its end."""
        self.excess = what
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        return ConnectionAbortedError(what)


class LimitedStateMachine(StateMachine):
    """The state machine of one association; a message that pynetdicom cannot process ends the association only."""

    def do_action(self, event: str) -> None:
        """Execute the action that an event triggers."""
        try:
            super().do_action(event)
        except Exception as error:  # pynetdicom would end a thread with a traceback
            self.dul.kill_dul()
            self.dul.to_user_queue.put(None)  # its thread may wait for a request
            self.dul.socket.refuse("")
            self.dul.assoc._server.broken(self.dul.assoc, f"malformed message ({type(error).__name__})")


class LimitedRequestHandler(RequestHandler):
    """Creates the association of a connection, with a limited socket."""

    server: LimitedServer

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # of the socket that is replaced here: each announces the connection
        association.dul.state_machine = LimitedStateMachine(association.dul)
        association.dul.socket = LimitedSocket(association, self.server.limits, client_socket=self.request)
        return association


class LimitedServer(ThreadedAssociationServer):
    """Accepts connections; one that waits, fails in its handshake or comes from elsewhere holds up no other."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        *arguments: Any,
        limits: NetworkLimits,
        admits: Callable[[str], bool],
        failed: Callable[[str, str], None],
        broken: Callable[[Association, str], None],
        **options: Any,
    ) -> None:
        """Listen.

        Args:
            arguments, options: Those of `ThreadedAssociationServer`.
            limits: Of each connection.
            admits: Whether connections from an IP address are accepted at all.
            failed: Called with the address and the reason of a connection that did not become an association.
            broken: Called with an association, and the reason why it cannot go on.

        Raises:
            OSError: The port is taken, or may not be used.
        """
        self.limits = limits
        self._admits, self._failed, self.broken = admits, failed, broken
        self._handshakes = threading.Semaphore(MAX_HANDSHAKES)
        super().__init__(*arguments, request_handler=LimitedRequestHandler, **options)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Return the next connection; its TLS handshake takes place in its own thread."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Return whether a connection is accepted."""
        if not self._admits(client_address[0]):
            self._failed(client_address[0], "no peer has this IP address")
            return False
        waiting = [one.requestor.address for one in self.active_associations if one.requestor.primitive is None]
        if len(waiting) >= MAX_WAITING or waiting.count(client_address[0]) >= MAX_WAITING_OF_ONE_ADDRESS:
            self._failed(client_address[0], "too many connections that request no association")
            return False
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Complete the TLS handshake, if there is one, and start the association."""
        if self.ssl_context is not None:
            if not self._handshakes.acquire(blocking=False):
                raise ConnectionAbortedError("too many TLS handshakes")
            try:
                request.settimeout(self.limits.handshake_timeout_s)
                request = self.ssl_context.wrap_socket(request, server_side=True)
            finally:
                self._handshakes.release()
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Report a connection that failed; socketserver would print a traceback."""
        error = sys.exc_info()[1]
        reason = f"TLS: {error.reason}" if isinstance(error, ssl.SSLError) else f"{type(error).__name__}"
        self._failed(client_address[0], reason)
