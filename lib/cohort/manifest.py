"""The record of a cohort in SQLite: what is to do, what is done with which weights, and why something failed.

Only the driver writes it. Each change is one transaction on the disk (WAL, synchronous FULL), so that a killed driver
loses at most the studies in flight, which the next run finds in the state `running`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.cohort.case import Case
from lib.cohort.outcome import LOST, Failure, Outcome, StudyResult
from lib.cohort.settings import FOLDER, Identity
from lib.errors import InputError, OutputError

FILE = "cohort.sqlite"
VERSION = 1
BUSY_TIMEOUT_S = 30.0  # `status` reads while a run writes
TABLES = f"""
PRAGMA user_version = {VERSION};
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE study (
    ct_uid TEXT PRIMARY KEY, study_uid TEXT NOT NULL, state TEXT NOT NULL, chosen INTEGER NOT NULL DEFAULT 1,
    attempts INTEGER NOT NULL DEFAULT 0, losses INTEGER NOT NULL DEFAULT 0, step TEXT NOT NULL DEFAULT '',
    code TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', weights TEXT NOT NULL DEFAULT '',
    seconds TEXT NOT NULL DEFAULT '{{}}', worker TEXT NOT NULL DEFAULT '', runtime TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '{{}}', finished TEXT NOT NULL DEFAULT '', source TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_state ON study (state, ct_uid);
CREATE TABLE run (
    id INTEGER PRIMARY KEY, engine TEXT NOT NULL, began TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, workers INTEGER NOT NULL DEFAULT 0
);
"""
NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
PENDING, RUNNING, DONE, FAILED, UNUSABLE = "pending", "running", "done", "failed", "unusable"
STATES = (PENDING, RUNNING, DONE, FAILED, UNUSABLE)


class Manifest:
    """The open record of a cohort; close it with `close`, or use it as a context."""

    def __init__(self, connection: sqlite3.Connection, out: Path) -> None:
        self._connection = connection
        self.out = out

    @classmethod
    def create(cls, out: Path, identity: Identity) -> Manifest:
        """Open the record of a folder to go on with it, or create both.

        Raises:
            InputError: The folder cannot be written, belongs to other weights or settings, or its record is damaged.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
            manifest = cls(_connect(out / FILE), out)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{out}: cannot be written ({error}); name a writable folder") from error
        with _translated(out):
            version = manifest._connection.execute("PRAGMA user_version").fetchone()[0]
            if not version:
                manifest._connection.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")
            elif version != VERSION:
                raise _other_version(out, version)
            manifest._keep_identity(identity)
        return manifest

    @classmethod
    def open(cls, out: Path) -> Manifest:
        """Open the record of a folder to read it; a run may go on meanwhile.

        Raises:
            InputError: The folder has no record, or a damaged one.
        """
        path = out / FILE
        if not path.is_file():
            raise InputError(f"{out}: has no {FILE}; name the output folder of a cohort", code="not_a_cohort")
        with _translated(out):
            manifest = cls(_connect(path), out)
            version = manifest._connection.execute("PRAGMA user_version").fetchone()[0]
            if version != VERSION:
                raise _other_version(out, version)
            return manifest

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> dict[str, str]:
        """What its files depend on; see `Identity`."""
        return dict(self._rows("SELECT name, value FROM setting"))

    def plan(self, cases: Iterable[tuple[Case, str]]) -> None:
        """Record the CTs of a run, each with the reason why it cannot be used, or an empty one.

        What is done stays done. Failed and unusable CTs are tried again, and those that were running count as lost.
        CTs of earlier plans that this one lacks stay recorded, but are not chosen.
        """
        with self._changes():
            self._connection.execute("UPDATE study SET chosen = 0")
            self._connection.execute(
                f"UPDATE study SET state = '{PENDING}', losses = losses + 1, code = '{LOST}' WHERE state = '{RUNNING}'"
            )
            for case, reason in cases:
                state = UNUSABLE if reason else PENDING
                self._connection.execute(
                    "INSERT INTO study (ct_uid, study_uid, state, reason, code, source) VALUES (?, ?, ?, ?, ?, ?) "
                    "ON CONFLICT (ct_uid) DO UPDATE SET chosen = 1, source = excluded.source, "
                    f"state = CASE WHEN state = '{DONE}' THEN state ELSE excluded.state END, "
                    f"reason = CASE WHEN state = '{DONE}' THEN '' ELSE excluded.reason END",
                    (case.ct_uid, case.study_uid, state, reason, "series_not_usable" if reason else "",
                     json.dumps(case.as_json())),
                )  # fmt: skip

    def forget_missing(self) -> None:
        """Let studies be pending again whose series was removed from the folder."""
        rows = self._rows(f"SELECT ct_uid, result FROM study WHERE state = '{DONE}' AND chosen")
        if self.identity["destination"] != FOLDER:
            return
        missing = [(uid,) for uid, result in rows if not (self.out / json.loads(result)["output"]).is_dir()]
        with self._changes():
            self._connection.executemany(f"UPDATE study SET state = '{PENDING}' WHERE ct_uid = ?", missing)

    def take(self) -> Case | None:
        """Return the next CT, which is running from now on; None if there is none at the moment."""
        with self._changes():
            row = self._connection.execute(
                f"SELECT source FROM study WHERE state = '{PENDING}' AND chosen ORDER BY attempts, ct_uid LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            case = Case.from_json(json.loads(row[0]))
            self._connection.execute(
                f"UPDATE study SET state = '{RUNNING}', attempts = attempts + 1 WHERE ct_uid = ?", (case.ct_uid,)
            )
            return case

    def record(self, outcome: Outcome, *, weights: str, again: bool) -> None:
        """Record the end of an attempt.

        Args:
            outcome: Of the attempt.
            weights: Digest of the models.
            again: Whether the study is to be tried again after a failure or a loss.
        """
        state = PENDING if again else DONE if isinstance(outcome.result, StudyResult) else FAILED
        step = code = reason = ""
        if outcome.result is None:
            code, reason = LOST, "its worker was killed, or its machine failed"
        elif isinstance(outcome.result, Failure):
            step, code, reason = outcome.result.step, outcome.result.code, outcome.result.reason
            state = UNUSABLE if outcome.result.is_unusable else state
        result = asdict(outcome.result) if isinstance(outcome.result, StudyResult) else {}
        with self._changes():
            self._connection.execute(
                f"UPDATE study SET state = ?, losses = losses + ?, step = ?, code = ?, reason = ?, weights = ?, "
                f"seconds = ?, worker = ?, runtime = ?, result = ?, finished = {NOW} WHERE ct_uid = ?",
                (state, outcome.result is None, step, code, reason, weights, json.dumps(dict(outcome.seconds)),
                 outcome.worker, outcome.runtime, json.dumps(result), outcome.ct_uid),
            )  # fmt: skip

    def put_back(self, ct_uids: Iterable[str]) -> None:
        """Let CTs that were taken, but not finished when the run was stopped, be pending as before."""
        with self._changes():
            self._connection.executemany(
                f"UPDATE study SET state = '{PENDING}', attempts = attempts - 1 "
                f"WHERE ct_uid = ? AND state = '{RUNNING}'",
                [(uid,) for uid in ct_uids],
            )

    def begin_run(self, engine: str) -> int:
        """Record the start of a run, and return its number."""
        with self._changes():
            row = self._connection.execute(
                f"INSERT INTO run (engine, began) VALUES (?, {NOW}) RETURNING id", (engine,)
            ).fetchone()
            return int(row[0])

    def update_run(self, run: int, *, seconds: float, done: int, workers: int) -> None:
        """Record how far a run is: its duration, finished studies, and the most workers it had at once."""
        with self._changes():
            self._connection.execute(
                f"UPDATE run SET ended = {NOW}, seconds = ?, done = ?, workers = max(workers, ?) WHERE id = ?",
                (seconds, done, workers, run),
            )

    def counts(self) -> dict[str, int]:
        """Return the number of chosen studies by state."""
        counted = dict(self._rows("SELECT state, count(*) FROM study WHERE chosen GROUP BY state"))
        return {state: int(counted.get(state, 0)) for state in STATES}

    def studies(self) -> Iterator[dict[str, Any]]:
        """Yield all studies in the order of their UIDs, as plain values, without their sources."""
        cursor = self._connection.execute(
            "SELECT ct_uid, study_uid, state, chosen, attempts, losses, step, code, reason, seconds, worker, runtime, "
            "result, finished FROM study ORDER BY ct_uid"
        )
        names = [column[0] for column in cursor.description]
        for row in cursor:
            study = dict(zip(names, row, strict=True))
            yield {**study, "seconds": json.loads(study["seconds"]), "result": json.loads(study["result"])}

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs in their order, as plain values."""
        names = ("engine", "began", "ended", "seconds", "done", "workers")
        rows = self._rows(f"SELECT {', '.join(names)} FROM run ORDER BY id")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _keep_identity(self, identity: Identity) -> None:
        """Record the identity of a new cohort; raise InputError where it differs from that of an earlier one."""
        known = self.identity
        if not known:
            with self._changes():
                rows = asdict(identity).items()
                self._connection.executemany("INSERT INTO setting VALUES (?, ?)", rows)
        elif differences := identity.differences(known):
            raise InputError(
                f"{self.out}: holds a cohort of other weights or settings: {'; '.join(differences)}; name another "
                "output folder, or use the same models and options",
                code="cohort_differs",
                differences=[difference.partition(" ")[0] for difference in differences],
            )

    def _rows(self, query: str) -> list[Any]:
        with _translated(self.out):
            return self._connection.execute(query).fetchall()

    @contextlib.contextmanager
    def _changes(self) -> Iterator[None]:
        """Make the changes of the context in one transaction."""
        with _translated(self.out):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextlib.contextmanager
def _translated(out: Path) -> Iterator[None]:
    """Convert errors of SQLite to errors for users."""
    try:
        yield
    except sqlite3.OperationalError as error:  # disk full, read-only, locked
        raise OutputError(
            f"{out / FILE}: cannot be used ({error}); free disk space, and run the same command again to go on"
        ) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise InputError(
            f"{out / FILE}: is damaged ({error}); restore it, or remove it to begin again", code="not_a_cohort"
        ) from error


def _other_version(out: Path, version: int) -> InputError:
    return InputError(
        f"{out / FILE}: version {version}, expected {VERSION}; name another folder, or use the ct2pet that wrote it",
        code="not_a_cohort",
    )
