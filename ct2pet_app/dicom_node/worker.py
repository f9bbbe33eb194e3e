"""The synthesis of a DICOM node's jobs: a thread of the server, through the same door as requests over HTTP."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from ct2pet_app.datastore.ct_source import CTSource
from ct2pet_app.datastore.folder import FolderDatastore
from ct2pet_app.datastore.studies import StudiesDatastore
from ct2pet_app.dicom_node.audit import AuditTrail
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.delivery import result_file
from ct2pet_app.dicom_node.jobs import Job, JobQueue, pause_after
from ct2pet_app.dicom_node.layout import NodeLayout
from ct2pet_app.dicom_node.settings import PeersFile, read_peers
from ct2pet_app.errors import SettingsError
from ct2pet_app.inference.request import DICOM
from ct2pet_app.server.log_redaction import where
from ct2pet_app.validation import did_you_mean
from lib.errors import CT2PETError, InputError
from lib.files import flush_to_disk

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5
MAX_ATTEMPTS = 20  # of a synthesis for which the server has no memory, or whose disk is full; a day with the pauses
MAX_UNEXPECTED = 3  # of one that fails by a fault of ct2pet
PARAMS: Mapping[str, Any] = {"result_extension": DICOM, "metrics": False}


class Synthesize(Protocol):
    """`CT2PETApp.synthesize`."""

    def __call__(self, model: str, source: CTSource, params: Mapping[str, Any]) -> dict[str, Any]: ...


class SynthesisWorker:
    """Synthesises one job after another; several servers that share a models folder take turns."""

    def __init__(
        self, layout: NodeLayout, settings: PeersFile, *, datastore: StudiesDatastore, synthesize: Synthesize
    ) -> None:
        """Open the queue.

        Raises:
            OutputError: It cannot be used.
            OSError: A folder cannot be created.
        """
        layout.create()
        self._layout, self._settings = layout, settings
        self._datastore, self._synthesize = datastore, synthesize
        self._jobs = JobQueue(QueueDatabase(layout.queue))
        self._audit = AuditTrail(layout.audit)
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="DICOM jobs", daemon=True).start()

    def stop(self) -> None:
        """Begin no further job; one that is under way is repeated after the next start."""
        self._stopped.set()

    def _run(self) -> None:
        with FileLock(self._layout.home / "worker.lock", thread_local=False):
            for failed in self._jobs.resume():
                self._write("synthesis_failed", failed, reason=f"the server ended {failed.begun} times during it")
            while not self._stopped.is_set():
                try:
                    job = self._jobs.begin()
                    if job is not None:
                        self._work(job)
                        continue
                except sqlite3.Error as error:  # a full disk
                    logger.error("jobs of the DICOM node wait: %s", where(error))
                    self._stopped.wait(self._settings.node.retry_s)
                self._stopped.wait(POLL_INTERVAL_S)

    def _work(self, job: Job) -> None:
        """Synthesise a job; its errors are recorded, and not raised."""
        try:
            self._datastore.studies.rescan()
            source = self._datastore.cts.image(job.series_uid)
            result = self._synthesize(job.model, source, PARAMS)
            self._keep(job, Path(result["file"]), result["params"])
        except InputError as error:  # the same CT would be refused again
            self._fail(job, f"{error.code}: {error}")
        except CT2PETError as error:
            self._postpone(job, f"{error.code}: {error}", at_most=MAX_ATTEMPTS)
        except OSError as error:
            self._postpone(job, f"the result cannot be kept ({error.strerror})", at_most=MAX_ATTEMPTS)
        except Exception as error:
            logger.error("job %d: %s", job.id, where(error))
            self._postpone(job, f"unexpected {type(error).__name__}; see the server's log", at_most=MAX_UNEXPECTED)

    def _keep(self, job: Job, path: Path, metadata: Mapping[str, Any]) -> None:
        flush_to_disk(path)
        path.replace(result_file(self._layout.outbox, job))
        flush_to_disk(self._layout.outbox)
        result_uid = str(metadata["series"]["series_instance_uid"])
        self._jobs.made(job, result_uid)
        model = metadata["model"]
        self._write(
            "synthesised",
            job,
            result_uid=result_uid,
            version=model["version"],
            checksum=model["checksum"],
            familiarity=metadata["familiarity"]["level"],
        )

    def _postpone(self, job: Job, reason: str, *, at_most: int) -> None:
        if job.attempts + 1 >= at_most:
            self._fail(job, reason)
            return
        pause_s = pause_after(job.attempts, self._settings.node.retry_s)
        self._jobs.postpone_synthesis(job, reason, pause_s=pause_s)
        self._write("synthesis_postponed", job, reason=reason, attempts=job.attempts + 1)

    def _fail(self, job: Job, reason: str) -> None:
        self._jobs.fail(job, reason)
        self._write("synthesis_failed", job, reason=reason)

    def _write(self, event: str, job: Job, **details: str | int | None) -> None:
        self._audit.write(
            event, study_uid=job.study_uid, series_uid=job.series_uid, model=job.model, send_to=job.send_to, **details
        )


def synthesis_worker(
    peers: Path,
    *,
    studies: str,
    models_folder: Path,
    models: tuple[str, ...],
    datastore: StudiesDatastore,
    synthesize: Callable[..., dict[str, Any]],
) -> SynthesisWorker:
    """Return the worker of the server for the DICOM node of a peers file.

    Raises:
        SettingsError: The studies are in a PACS, a rule names a model that is not served, or a setting is invalid.
        OutputError: The queue cannot be used.
    """
    settings = read_peers(peers)
    if not isinstance(datastore, FolderDatastore):
        raise SettingsError("dicom_peers: a DICOM node needs a folder of studies, not a PACS")
    for rule in settings.rules:
        if rule.model not in models:
            raise SettingsError(
                f"{peers.name}: a rule names the model {rule.model!r}, which this server does not serve; "
                f"{did_you_mean(rule.model, models)}; the setting `models` selects them"
            )
    layout = NodeLayout(Path(studies), models_folder)
    return SynthesisWorker(layout, settings, datastore=datastore, synthesize=synthesize)
