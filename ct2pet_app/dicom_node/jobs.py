"""Jobs: one synthetic PET of one received series, from its rule to its receiver. The functions change the queue only.

A job is `waiting`, `working` (in the server), `made` (its result is in the outbox), `sent` or `failed`.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from ct2pet_app.dicom_node.database import QueueDatabase

MAX_BEGUN = 3  # of a synthesis that ended with the server each time
MAX_PAUSE_S = 600.0


@dataclass(frozen=True)
class Job:
    """A synthetic PET that a rule asks for.

    Attributes:
        begun: How often its synthesis was begun since it was last waiting for the first time.
        attempts: Failed ones, of the synthesis while it waits, of the transfer once it is made.
        since: When it came into its state the first time; seconds since 1970.
        result_uid: SeriesInstanceUID of the PET, once it is made.
    """

    id: int
    series_uid: str
    study_uid: str
    model: str
    send_to: str
    begun: int
    attempts: int
    since: float
    result_uid: str


COLUMNS = "job.id, series_uid, study_uid, model, send_to, begun, attempts, since, result_uid"
FROM = "FROM job JOIN series ON series.uid = series_uid"


IS_TIME = "(not_before <= ? OR not_before > ?)"


def times() -> tuple[float, float]:
    """Return the parameters of `IS_TIME`: a pause longer than any means that the clock was set back."""
    now = time.time()
    return now, now + MAX_PAUSE_S


def _job(row: sqlite3.Row) -> Job:
    return Job(**dict(row))


class JobQueue:
    """The jobs of a queue."""

    def __init__(self, database: QueueDatabase) -> None:
        self._database = database

    def begin(self) -> Job | None:
        """Return the next job to synthesise, which is now being worked on; None if there is none."""
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} {FROM} WHERE job.state = 'waiting' AND {IS_TIME} ORDER BY job.id LIMIT 1",
                times(),
            ).fetchone()
            if row is None:
                return None
            connection.execute("UPDATE job SET state = 'working', begun = begun + 1 WHERE id = ?", (row["id"],))
            return _job(row)

    def resume(self) -> list[Job]:
        """Let jobs wait again whose server has ended; return those that are given up, because it did so repeatedly."""
        reason = f"the server ended {MAX_BEGUN} times during its synthesis"
        with self._database.transaction() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} {FROM} WHERE job.state = 'working' AND begun >= ?", (MAX_BEGUN,)
            ).fetchall()
            for row in rows:
                connection.execute("UPDATE job SET state = 'failed', reason = ? WHERE id = ?", (reason, row["id"]))
            connection.execute("UPDATE job SET state = 'waiting' WHERE state = 'working'")
        return [_job(row) for row in rows]

    def made(self, job: Job, result_uid: str) -> None:
        """Record that the result of a job is in the outbox."""
        self._set(job, state="made", result_uid=result_uid, attempts=0, since=time.time(), not_before=0.0, reason="")

    def postpone_synthesis(self, job: Job, reason: str, *, pause_s: float) -> None:
        """Let a job wait for another attempt; this one does not count as one that ended the server."""
        self._set(
            job, state="waiting", begun=0, attempts=job.attempts + 1, reason=reason, not_before=time.time() + pause_s
        )

    def waiting_for(self, send_to: str) -> Job | None:
        """Return the next job whose result is to be sent to a peer now; None if there is none."""
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} {FROM} WHERE job.state = 'made' AND {IS_TIME} AND send_to = ? "
                "ORDER BY not_before, job.id LIMIT 1",
                (*times(), send_to),
            ).fetchone()
        return None if row is None else _job(row)

    def confirmed_files(self, job: Job) -> set[str]:
        """Return the files of a job's result whose instances its receiver has confirmed."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT file FROM sent WHERE job_id = ?", (job.id,)).fetchall()
        return {row["file"] for row in rows}

    def confirm(self, job: Job, file: str) -> None:
        """Record that the receiver has confirmed the instance in a file of the result."""
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sent VALUES (?, ?)", (job.id, file))

    def sent(self, job: Job) -> None:
        """Record that the receiver has confirmed all instances."""
        self._set(job, state="sent", reason="")

    def postpone_transfer(self, job: Job, reason: str, *, pause_s: float) -> None:
        """Let a result wait for another attempt."""
        self._set(job, attempts=job.attempts + 1, reason=reason, not_before=time.time() + pause_s)

    def fail(self, job: Job, reason: str) -> None:
        """Give a job up."""
        self._set(job, state="failed", reason=reason)

    def unknown_receivers(self, known: set[str]) -> list[Job]:
        """Return the jobs whose result waits for a peer that is not among the known ones."""
        with self._database.transaction() as connection:
            rows = connection.execute(f"SELECT {COLUMNS} {FROM} WHERE job.state IN ('waiting', 'made')").fetchall()
        return [_job(row) for row in rows if row["send_to"] not in known]

    def _set(self, job: Job, **values: Any) -> None:
        assigned = ", ".join(f"{name} = ?" for name in values)
        with self._database.transaction() as connection:
            connection.execute(f"UPDATE job SET {assigned} WHERE id = ?", (*values.values(), job.id))


def pause_after(attempts: int, first_s: float) -> float:
    """Return how long to wait after a number of earlier failed attempts: twice as long after each."""
    return float(min(MAX_PAUSE_S, first_s * 2 ** min(attempts, 20)))
