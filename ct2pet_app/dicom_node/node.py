"""The DICOM node: its storage server, the completion of series, and the delivery of results, in one process."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from ct2pet_app.dicom_node.audit import AuditTrail
from ct2pet_app.dicom_node.completion import Completion
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.delivery import Delivery
from ct2pet_app.dicom_node.inbox import Inbox
from ct2pet_app.dicom_node.jobs import JobQueue
from ct2pet_app.dicom_node.layout import NodeLayout
from ct2pet_app.dicom_node.quota import DiskQuota
from ct2pet_app.dicom_node.settings import Peer, PeersFile
from ct2pet_app.errors import SettingsError
from lib.dicom.network.client import RemoteNode, count_instances
from lib.dicom.network.limits import NetworkLimits
from lib.dicom.network.server import Caller, StorageServer, StoreRequest, StoreResult
from lib.dicom.network.tls import client_context, server_context
from lib.errors import RemoteError

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 0.5  # for complete series
CLEAN_INTERVAL_S = 30.0
ABANDONED_AFTER_S = 150.0  # of a file that is being received; an association without data ends after 60 s
CLOSE_TIMEOUT_S = 3.0


class DicomNode:
    """A running DICOM node. It implements `StorageOwner` of `lib/dicom/network/server.py`."""

    def __init__(self, aet: str, port: int, *, layout: NodeLayout, settings: PeersFile) -> None:
        """Open the queue, listen, and send what waits to be sent.

        Raises:
            SettingsError: Another node uses the same models folder.
            CT2PETError: The port or the queue cannot be used, or a TLS file is invalid.
            OSError: A folder cannot be written.
        """
        layout.create()
        self._lock = FileLock(layout.home / "node.lock", blocking=False, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise SettingsError("another DICOM node uses this models folder; end it, or name another folder") from error
        self._settings, self._aet, self._layout = settings, aet, layout
        self._audit = AuditTrail(layout.audit)
        self._database = QueueDatabase(layout.queue)
        remove_abandoned_files(layout.incoming, older_than_s=0.0)
        quota = DiskQuota((layout.received, layout.home), limit_bytes=int(settings.node.quota_gb * 1e9))
        self._inbox = Inbox(layout, self._database, audit=self._audit, quota=quota)
        self._completion = Completion(
            self._inbox, self._database, audit=self._audit, settings=settings, count=self._count_at_sender
        )
        self._jobs = JobQueue(self._database)
        self._stopped = threading.Event()
        limits = NetworkLimits(
            max_associations=settings.node.max_associations,
            max_instance_bytes=settings.node.max_instance_mb * 10**6,
        )
        self.server = StorageServer(
            aet,
            (settings.node.listen, port),
            owner=self,
            limits=limits,
            tls=None if settings.tls is None else server_context(settings.tls),
            incoming=layout.incoming,
        )
        self._threads = [threading.Thread(target=self._look, name="completion", daemon=True)]
        for name in sorted({rule.send_to for rule in settings.rules}):
            delivery = Delivery(
                self._remote(name), aet, jobs=self._jobs, audit=self._audit, outbox=layout.outbox,
                settings=settings.node,
            )  # fmt: skip
            self._threads.append(
                threading.Thread(target=delivery.run, args=(self._stopped,), name=f"to {name}", daemon=True)
            )
        for thread in self._threads:
            thread.start()
        self._audit.write("node_started", aet=aet, address=f"{settings.node.listen}:{self.server.port}")
        self._warn_of_lost_receivers()

    def close(self) -> None:
        """End associations and, after the current instance, transfers; what is left continues at the next start."""
        self._stopped.set()
        self.server.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        while self.server.associations and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(OSError):  # a full disk
            self._audit.write("node_stopped", aet=self._aet)

    # -- decisions for the storage server ------------------------------------------------------------------------------

    def admits(self, address: str) -> bool:
        """Return whether any peer that may send can have this IP address."""
        return any(peer.may_send and peer.may_connect_from(address) for peer in self._settings.peers)

    def why_not(self, caller: Caller) -> str:
        """Return why a caller gets no association; empty if it gets one."""
        sender = self._settings.sender(caller.calling_aet)
        if sender is None:
            return f"no peer that may send has the AE title {caller.calling_aet!r}"
        if not sender.may_connect_from(caller.address):
            return f"peer {sender.name} may not connect from this IP address"
        return ""

    def store(self, caller: Caller, request: StoreRequest) -> StoreResult:
        """Keep an instance and return the response to its sender."""
        return self._inbox.store(caller, request)

    def note(self, event: str, caller: Caller, *, reason: str = "") -> None:
        """Write an event of an association to the audit trail."""
        self._audit.write(
            event,
            aet=caller.calling_aet or None,
            called_aet=caller.called_aet or None,
            address=caller.address,
            reason=reason,
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        cleaned_at = time.monotonic()
        while not self._stopped.wait(LOOK_INTERVAL_S):
            try:
                self._completion.look()
                if time.monotonic() > cleaned_at + CLEAN_INTERVAL_S:
                    cleaned_at = time.monotonic()
                    remove_abandoned_files(self._layout.incoming, older_than_s=ABANDONED_AFTER_S)
            except (OSError, sqlite3.Error) as error:  # a full disk: try again
                logger.error("received series cannot be completed: %s", type(error).__name__)
                self._stopped.wait(10 * LOOK_INTERVAL_S)

    def _count_at_sender(self, aet: str, study_uid: str, series_uid: str) -> int | None:
        sender = self._settings.sender(aet)
        if sender is None:
            raise RemoteError(f"no peer has the AE title {aet}")
        return count_instances(self._remote(sender.name), self._aet, study_uid=study_uid, series_uid=series_uid)

    def _remote(self, name: str) -> RemoteNode:
        peer = self._settings.peer(name)
        assert peer is not None  # of every rule and sender: checked when the settings were read
        return remote_node(peer, self._settings)

    def _warn_of_lost_receivers(self) -> None:
        known = {rule.send_to for rule in self._settings.rules}
        for job in self._jobs.unknown_receivers(known):
            logger.warning(
                "the PET of series %s waits for peer %r, to which no rule sends any more; name it in a rule to send it",
                job.series_uid,
                job.send_to,
            )


def remote_node(peer: Peer, settings: PeersFile) -> RemoteNode:
    """Return a peer as the network knows it."""
    tls = client_context(settings.tls) if peer.tls and settings.tls is not None else None
    return RemoteNode(peer.name, peer.aet, peer.host, peer.port, tls)


def remove_abandoned_files(folder: Path, *, older_than_s: float) -> None:
    """Remove partly received files whose association has ended."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # just kept or removed
            if time.time() - path.stat().st_mtime >= older_than_s:
                path.unlink()
