"""A storage server (C-STORE and C-ECHO SCP) for CT images, which asks its owner whom to admit and what to keep."""

from __future__ import annotations

import logging
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pynetdicom
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from lib.dicom.network.contexts import accepted_contexts
from lib.dicom.network.limits import NetworkLimits
from lib.dicom.network.transport import LimitedServer
from lib.errors import InputError

SUCCESS, OUT_OF_RESOURCES, MISMATCH = 0x0000, 0xA700, 0xA900
CANNOT_UNDERSTAND, CONFLICT = 0xC000, 0xC001  # Cxxx: error, cannot understand
MAX_COMMENT = 64  # of ErrorComment, LO
# result, source and reason of an A-ASSOCIATE-RJ (PS3.8 9.3.4)
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = (1, 1, 3), (1, 1, 7)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
UNLIMITED = 10**6  # pynetdicom's own limit counts connections without a request, too


@dataclass(frozen=True)
class Caller:
    """Who requests an association, as it says itself, and the IP address that it comes from."""

    calling_aet: str
    called_aet: str
    address: str


@dataclass(frozen=True)
class StoreRequest:
    """A received instance.

    Attributes:
        path: Its file.
        sop_class_uid: Of the presentation context in which it was sent.
        sop_instance_uid: As the request says.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class StoreResult:
    """The response to a C-STORE: its status (PS3.4 table B.2-1), and why; empty for success."""

    status: int
    comment: str = ""


class StorageOwner(Protocol):
    """Whoever decides for a storage server; called from the threads of associations."""

    def admits(self, address: str) -> bool:
        """Return whether connections from an IP address are accepted."""
        ...

    def why_not(self, caller: Caller) -> str:
        """Return why a caller gets no association; empty if it gets one."""
        ...

    def store(self, caller: Caller, request: StoreRequest) -> StoreResult:
        """Keep an instance, whose file may be moved away; it is removed afterwards."""
        ...

    def note(self, event: str, caller: Caller, *, reason: str = "") -> None:
        """Record `association_accepted`, `association_refused`, `association_ended` or `echo`."""
        ...


class StorageServer:
    """A running storage server."""

    def __init__(
        self,
        aet: str,
        address: tuple[str, int],
        *,
        owner: StorageOwner,
        limits: NetworkLimits,
        tls: Any,
        incoming: Path,
    ) -> None:
        """Listen and accept associations.

        Args:
            aet: The AE title; callers must use it.
            address: Host and port.
            owner: Decides.
            limits: Of each connection and of all.
            tls: A context of `server_context`; None without TLS.
            incoming: An existing folder in which files are received.

        Raises:
            InputError: The port is in use, or may not be used.
        """
        # process-wide settings of pynetdicom: receive into files, and log nothing, because a record may hold names
        pynetdicom._config.STORE_RECV_CHUNKED_DATASET = True
        pynetdicom._config.LOG_HANDLER_LEVEL = "none"
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        tempfile.tempdir = str(incoming)
        self._aet, self._owner, self._limits = aet, owner, limits
        entity = AE(ae_title=aet)
        entity.maximum_associations = UNLIMITED
        entity.maximum_pdu_size = limits.max_pdu_bytes
        entity.acse_timeout, entity.dimse_timeout = limits.acse_timeout_s, limits.network_timeout_s
        entity.network_timeout = limits.network_timeout_s
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server = LimitedServer(
                entity, address, aet, accepted_contexts(), tls, handlers,
                limits=limits, admits=owner.admits, failed=self._failed, broken=self._ended,
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"{address[0]} port {address[1]}: cannot be listened on ({error.strerror}); choose another port, or "
                "end the program that uses it"
            ) from error
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, name="DICOM server", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """The number of current associations and connections."""
        return len(self._server.active_associations)

    def close(self) -> None:
        """Accept no more connections and abort the current associations."""
        self._server.shutdown()
        for association in self._server.active_associations:
            threading.Thread(target=association.abort, daemon=True).start()  # it may wait for the peer

    # -- events of pynetdicom ------------------------------------------------------------------------------------------

    def _requested(self, event: Any) -> None:
        caller = _caller(event.assoc)
        try:
            reason, rejection = self._why_not(caller)
        except Exception as error:  # pynetdicom would accept the association
            reason, rejection = f"unexpected {type(error).__name__}", LOCAL_LIMIT_EXCEEDED
        if reason:
            event.assoc.acse.send_reject(*rejection)
            self._owner.note("association_refused", caller, reason=reason)
            event.assoc.kill()

    def _why_not(self, caller: Caller) -> tuple[str, tuple[int, int, int]]:
        """Return why a caller gets no association, and the codes of the rejection; an empty reason if it gets one."""
        reason = self._owner.why_not(caller)
        if reason:
            return reason, CALLING_NOT_RECOGNISED
        if caller.called_aet != self._aet:
            return f"called AE title {caller.called_aet!r}, expected {self._aet!r}", CALLED_NOT_RECOGNISED
        requested = [one for one in self._server.active_associations if one.requestor.primitive is not None]
        is_full = len(requested) > self._limits.max_associations
        return "as many associations as allowed are active" if is_full else "", LOCAL_LIMIT_EXCEEDED

    def _accepted(self, event: Any) -> None:
        contexts = event.assoc.accepted_contexts
        reason = "" if contexts else "none of the proposed SOP classes and transfer syntaxes is supported"
        self._owner.note("association_accepted", _caller(event.assoc), reason=reason)

    def _closed(self, event: Any) -> None:
        association = event.assoc
        excess = getattr(association.dul.socket, "excess", "")
        if association.requestor.primitive is None:
            self._ended(association, excess or "no valid association request")
            association.dul.to_user_queue.put(None)  # its thread waits for a request
        elif excess:
            self._ended(association, excess)
        _remove_partial_file(association)

    def _ended(self, association: Any, reason: str) -> None:
        event = "association_refused" if association.requestor.primitive is None else "association_ended"
        self._owner.note(event, _caller(association), reason=reason)

    def _failed(self, address: str, reason: str) -> None:
        self._owner.note("association_refused", Caller("", "", address), reason=reason)

    def _echo(self, event: Any) -> int:
        self._owner.note("echo", _caller(event.assoc))
        return SUCCESS

    def _store(self, event: Any) -> Dataset:
        request = event.request
        received = StoreRequest(
            event.dataset_path, str(event.context.abstract_syntax), str(request.AffectedSOPInstanceUID)
        )
        request._dataset_file.flush()
        result = self._owner.store(_caller(event.assoc), received)
        response = Dataset()
        response.Status = result.status
        if result.comment:
            response.ErrorComment = result.comment[:MAX_COMMENT]
        return response


def _remove_partial_file(association: Any) -> None:
    """Remove the file of an instance whose end did not arrive; called in the thread that writes it."""
    message = association.dimse.message
    if message is not None and message._data_set_file is not None:
        message._data_set_file.close()
        message._data_set_path.unlink(missing_ok=True)


def _caller(association: Any) -> Caller:
    requested = association.requestor.primitive
    calling, called = ("", "") if requested is None else (requested.calling_ae_title, requested.called_ae_title)
    return Caller(str(calling).strip(), str(called).strip(), str(association.requestor.address))
