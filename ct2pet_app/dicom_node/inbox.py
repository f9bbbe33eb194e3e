"""Received instances: each is checked, put on the disk and recorded before its sender gets the confirmation."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from ct2pet_app.dicom_node.audit import AuditTrail
from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.layout import NodeLayout
from ct2pet_app.dicom_node.quota import DiskQuota
from lib.dicom.attributes.value_rules import UID
from lib.dicom.instance_header import InstanceHeader
from lib.dicom.network.server import (
    CANNOT_UNDERSTAND,
    CONFLICT,
    MISMATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
    Caller,
    StoreRequest,
    StoreResult,
)
from lib.dicom.read.header import read_header
from lib.errors import DicomError
from lib.files import file_checksum, flush_to_disk


@dataclass(frozen=True)
class ReceivedSeries:
    """A series in the inbox.

    Attributes:
        aet, address: Of the sender of its last instance.
        instances: How many have arrived.
        first_at, last_at: When the first and the last one did since it was complete before, seconds since 1970.
    """

    uid: str
    study_uid: str
    aet: str
    address: str
    instances: int
    first_at: float
    last_at: float


class Inbox:
    """Keeps received instances, and knows which series may be complete."""

    def __init__(self, layout: NodeLayout, database: QueueDatabase, *, audit: AuditTrail, quota: DiskQuota) -> None:
        self._layout, self._database, self._audit, self._quota = layout, database, audit, quota
        self._started_at = time.time()

    def store(self, caller: Caller, request: StoreRequest) -> StoreResult:
        """Keep an instance and return the response to its sender."""
        header = None
        try:
            result, header = self._checked(request)
            if result.status == SUCCESS and header is not None:
                result = self._kept(caller, request.path, header)
        except (OSError, sqlite3.Error) as error:
            result = StoreResult(OUT_OF_RESOURCES, f"cannot be stored ({type(error).__name__})")
        shared = None if header is None else header.shared
        self._audit.write(
            "instance_stored" if result.status == SUCCESS else "instance_refused",
            aet=caller.calling_aet,
            address=caller.address,
            study_uid=None if shared is None else shared.study_instance_uid[:64],
            series_uid=None if shared is None else shared.series_instance_uid[:64],
            sop_uid=request.sop_instance_uid[:64],
            status=None if result.status == SUCCESS else f"0x{result.status:04X}",
            reason=result.comment,
        )
        return result

    def due(self, quiet_s: float) -> list[ReceivedSeries]:
        """Return the series of which no instance has arrived for some time, not counting when this node was off."""
        now = time.time()
        if now < self._started_at + quiet_s:
            return []
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT uid, study_uid, aet, address, first_at, last_at, "
                "(SELECT count(*) FROM instance WHERE series_uid = series.uid) AS instances "
                "FROM series WHERE state = 'receiving' AND (last_at <= ? OR last_at > ?) ORDER BY last_at",
                (now - quiet_s, now),  # later than now: the clock was set back
            ).fetchall()
        return [ReceivedSeries(**dict(row)) for row in rows]

    def wait_longer(self, series: ReceivedSeries, reason: str) -> bool:
        """Let a series that is not complete be due again later; return whether the reason is a new one."""
        with self._database.transaction() as connection:
            (before,) = connection.execute("SELECT reason FROM series WHERE uid = ?", (series.uid,)).fetchone()
            connection.execute(
                "UPDATE series SET last_at = ?, reason = ? WHERE uid = ?", (time.time(), reason, series.uid)
            )
        return bool(before != reason)

    def publish(self, series: ReceivedSeries) -> Path | None:
        """Move the files of a series into the studies and return its folder; None if an instance has arrived meanwhile.

        It is repeated after a crash, and moves what is left.

        Raises:
            OSError: They cannot be moved.
        """
        unfinished, folder = self._layout.unfinished_series(series.uid), self._layout.series(series.uid)
        with self._database.transaction() as connection:  # no instance arrives until they are moved
            if not is_unchanged(connection, series):
                return None
            if unfinished.is_dir():
                if not folder.exists():
                    unfinished.replace(folder)
                else:  # late instances, or ones that were sent again
                    for path in sorted(unfinished.iterdir()):
                        path.replace(folder / path.name)
                    unfinished.rmdir()
                flush_to_disk(self._layout.received)
        return folder

    def _checked(self, request: StoreRequest) -> tuple[StoreResult, InstanceHeader | None]:
        """Return why an instance is refused, or success, and its header if it can be read."""
        try:
            header = read_header(request.path)
        except DicomError:  # the message may quote the header
            return StoreResult(CANNOT_UNDERSTAND, "malformed or truncated data set"), None
        shared = header.shared
        uids = (header.sop_instance_uid, shared.study_instance_uid, shared.series_instance_uid)
        if not all(UID.fullmatch(uid) for uid in uids):
            return StoreResult(CANNOT_UNDERSTAND, "an invalid UID"), header
        if (header.sop_instance_uid, shared.sop_class_uid) != (request.sop_instance_uid, request.sop_class_uid):
            return StoreResult(MISMATCH, "its UIDs or SOP class are not those of the request"), header
        if shared.modality != "CT":
            return StoreResult(MISMATCH, "Modality is not CT"), header
        full = self._quota.why_full(request.path.stat().st_size)
        return (StoreResult(OUT_OF_RESOURCES, full) if full else StoreResult(SUCCESS)), header

    def _kept(self, caller: Caller, path: Path, header: InstanceHeader) -> StoreResult:
        shared, uid = header.shared, header.sop_instance_uid
        patient = hashlib.sha256(shared.patient_id.encode()).hexdigest()
        checksum = file_checksum(path)
        flush_to_disk(path)
        now = time.time()
        with self._database.transaction() as connection:
            series = connection.execute(
                "SELECT study_uid, patient FROM series WHERE uid = ?", (shared.series_instance_uid,)
            ).fetchone()
            if series is not None and tuple(series) != (shared.study_instance_uid, patient):
                return StoreResult(MISMATCH, "its series is of another study or patient")
            before = connection.execute("SELECT series_uid, checksum FROM instance WHERE uid = ?", (uid,)).fetchone()
            if before is not None and tuple(before) != (shared.series_instance_uid, checksum):
                return StoreResult(CONFLICT, "another instance with this UID is stored")
            is_stored = before is not None and self._has_file(shared.series_instance_uid, uid)
            if not is_stored:
                self._move(path, shared.series_instance_uid, uid)
            connection.execute(
                "INSERT INTO series VALUES (?, ?, ?, ?, ?, 'receiving', ?, ?, '') ON CONFLICT (uid) DO NOTHING",
                (
                    shared.series_instance_uid, shared.study_instance_uid, patient, caller.calling_aet,
                    caller.address, now, now,
                ),
            )  # fmt: skip
            connection.execute(
                "INSERT OR IGNORE INTO instance VALUES (?, ?, ?)", (uid, shared.series_instance_uid, checksum)
            )
            if not is_stored or self._has_failed(connection, shared.series_instance_uid):
                connection.execute(
                    "UPDATE series SET first_at = CASE state WHEN 'receiving' THEN first_at ELSE ? END, "
                    "state = 'receiving', reason = '', last_at = ?, aet = ?, address = ? WHERE uid = ?",
                    (now, now, caller.calling_aet, caller.address, shared.series_instance_uid),
                )
        return StoreResult(SUCCESS, "stored before" if is_stored else "")

    def _has_failed(self, connection: sqlite3.Connection, series_uid: str) -> bool:
        """Return whether a series sent again is to be worked on again."""
        row = connection.execute(
            "SELECT state != 'complete' OR EXISTS (SELECT 1 FROM job WHERE series_uid = uid AND state = 'failed') "
            "FROM series WHERE uid = ?",
            (series_uid,),
        ).fetchone()
        return bool(row[0])

    def _has_file(self, series_uid: str, uid: str) -> bool:
        folders = (self._layout.series(series_uid), self._layout.unfinished_series(series_uid))
        return any((folder / f"{uid}.dcm").is_file() for folder in folders)

    def _move(self, path: Path, series_uid: str, uid: str) -> None:
        folder = self._layout.unfinished_series(series_uid)
        folder.mkdir(mode=0o700, exist_ok=True)
        path.replace(folder / f"{uid}.dcm")
        flush_to_disk(folder)


def is_unchanged(connection: sqlite3.Connection, series: ReceivedSeries) -> bool:
    """Return whether no instance of a series has arrived since it was found to be due."""
    row = connection.execute("SELECT last_at FROM series WHERE uid = ?", (series.uid,)).fetchone()
    return row is not None and row["last_at"] == series.last_at
