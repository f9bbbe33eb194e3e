"""Delivery of results by C-STORE: one thread a receiver, so that one that is away holds up no other."""

from __future__ import annotations

import logging
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from ct2pet_app.dicom_node.audit import AuditTrail
from ct2pet_app.dicom_node.jobs import Job, JobQueue, pause_after
from ct2pet_app.dicom_node.settings import NodeSection
from ct2pet_app.server.log_redaction import where
from lib.dicom.network.client import RemoteNode, StoreConnection, store_connection
from lib.errors import RemoteError

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5


class Delivery:
    """Sends the results for one receiver."""

    def __init__(
        self, remote: RemoteNode, aet: str, *, jobs: JobQueue, audit: AuditTrail, outbox: Path, settings: NodeSection
    ) -> None:
        self._remote, self._aet, self._jobs, self._audit = remote, aet, jobs, audit
        self._outbox, self._settings = outbox, settings

    def run(self, stopped: threading.Event) -> None:
        """Send what there is to send, until the event is set."""
        while not stopped.is_set():
            try:
                job = self._jobs.waiting_for(self._remote.name)
                if job is not None:
                    self._deliver(job, stopped.is_set)
                    continue
            except Exception as error:  # a full disk, or a fault of ours: nothing is lost, and it is tried again
                logger.error("results for %s cannot be sent: %s", self._remote.name, where(error))
                stopped.wait(self._settings.retry_s)
            stopped.wait(POLL_INTERVAL_S)

    def _deliver(self, job: Job, is_stopped: Callable[[], bool]) -> None:
        file = result_file(self._outbox, job)
        if not file.is_file():
            self._fail(job, "its result is no longer in the outbox")
            return
        try:
            with store_connection(self._remote, self._aet) as connection:
                count = self._send(job, file, connection, is_stopped)
        except RemoteError as error:
            self._postpone(job, str(error))
            return
        except zipfile.BadZipFile:
            self._fail(job, "its result in the outbox is damaged")
            return
        if count is not None:
            self._jobs.sent(job)
            file.unlink(missing_ok=True)
            self._write("sent", job, instances=count)

    def _send(self, job: Job, file: Path, connection: StoreConnection, is_stopped: Callable[[], bool]) -> int | None:
        """Send the instances that the receiver has not confirmed; return their total, or None if it was stopped."""
        confirmed = self._jobs.confirmed_files(job)
        with zipfile.ZipFile(file) as result:
            names = sorted(result.namelist())
            for name in names:
                if is_stopped():
                    return None
                if name not in confirmed:
                    connection.store(result.read(name))
                    self._jobs.confirm(job, name)
        return len(names)

    def _postpone(self, job: Job, reason: str) -> None:
        if time.time() > job.since + self._settings.give_up_h * 3600:
            self._fail(job, reason)
            return
        pause_s = pause_after(job.attempts, self._settings.retry_s)
        self._jobs.postpone_transfer(job, reason, pause_s=pause_s)
        self._write("transfer_postponed", job, reason=reason, attempts=job.attempts + 1)

    def _fail(self, job: Job, reason: str) -> None:
        self._jobs.fail(job, reason)
        self._write("transfer_failed", job, reason=reason)

    def _write(self, event: str, job: Job, **details: str | int) -> None:
        self._audit.write(
            event,
            aet=self._remote.aet,
            address=f"{self._remote.host}:{self._remote.port}",
            study_uid=job.study_uid,
            series_uid=job.series_uid,
            result_uid=job.result_uid,
            send_to=job.send_to,
            **details,
        )


def result_file(outbox: Path, job: Job) -> Path:
    """Return the file of a job's result."""
    return outbox / f"{job.id}.zip"
