"""The queue of a DICOM node on the disk: received series and instances, and what is to be made and sent of them.

The node writes it, and the thread of the server that synthesises; either can be killed at any line. Each step is one
transaction, made durable before the step is reported to anyone.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from lib.errors import OutputError

BUSY_TIMEOUT_S = 30.0
VERSION = 1
TABLES = (
    # state: receiving, complete, unusable or incomplete; patient is a hash
    """CREATE TABLE series (
        uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, patient TEXT NOT NULL, aet TEXT NOT NULL, address TEXT NOT NULL,
        state TEXT NOT NULL, first_at REAL NOT NULL, last_at REAL NOT NULL, reason TEXT NOT NULL DEFAULT '')""",
    """CREATE TABLE instance (
        uid TEXT PRIMARY KEY, series_uid TEXT NOT NULL REFERENCES series, checksum TEXT NOT NULL)""",
    "CREATE INDEX instance_series ON instance (series_uid)",
    # state: waiting, working, made, sent or failed; content is a hash of the UIDs of the series' instances
    """CREATE TABLE job (
        id INTEGER PRIMARY KEY, series_uid TEXT NOT NULL REFERENCES series, content TEXT NOT NULL, model TEXT NOT NULL,
        send_to TEXT NOT NULL, state TEXT NOT NULL, begun INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0, since REAL NOT NULL, not_before REAL NOT NULL DEFAULT 0,
        result_uid TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        UNIQUE (series_uid, content, model, send_to))""",
    "CREATE TABLE sent (job_id INTEGER NOT NULL REFERENCES job, file TEXT NOT NULL, PRIMARY KEY (job_id, file))",
)


class QueueDatabase:
    """A connection to the queue, shared by the threads of a process."""

    def __init__(self, path: Path) -> None:
        """Open the queue; create it if it is missing.

        Raises:
            OutputError: It cannot be written, is damaged, or is of another version of ct2pet.
        """
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
            )
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA synchronous = FULL")
            with self.transaction() as connection:
                version = self._prepare(connection)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"{path.name}: the queue of the DICOM node cannot be used ({error}); make it writable, or, if it is "
                "damaged, move it away: series that were not sent have to be sent again"
            ) from error
        if version != VERSION:
            raise OutputError(
                f"{path.name}: of another version of ct2pet ({version}, expected {VERSION}); move it away"
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction, which is rolled back after an exception.

        Raises:
            sqlite3.Error: The disk is full or fails; nothing is changed.
        """
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _prepare(self, connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            return VERSION
        return int(version)
