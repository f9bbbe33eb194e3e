"""Progress of a training, a batch or a scoring: percentages in the log, and a report file that the server reads.

MONAI Label keeps the last 20 lines of a task's log. That is enough for percentages, but not for the reasons why some of
a thousand cases failed; those are in the report.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ct2pet_app.advice import error_record
from ct2pet_app.json_values import read_json_object, sendable
from ct2pet_app.server.log_redaction import where
from lib.errors import CT2PETError, StudiesError
from lib.files import write_text
from lib.types import Progress

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 5.0
STALE_AFTER_S = 7 * 24 * 3600.0  # of a report: no training takes longer, and its status is not requested later
MAX_REASONS = 200  # in a report; the number of failed cases is always complete
REPORT_ID = re.compile(r"[0-9a-f]{32}")
REPORT_KEY = "report"  # of a task's request: the id of its report, set by the server
ERROR_KEY = "error"  # of a report, and of a task's status: code, params and detail of the error that ended the task


def log_percent(title: str) -> Progress:
    """Return a progress callback that logs percentages, at most one line every 5 seconds."""
    logged = {"at": float("-inf"), "percent": -1}

    def log(done: int, total: int, what: str) -> None:
        percent = 100 * done // max(1, total)
        if percent != logged["percent"] and (time.monotonic() - logged["at"] >= LOG_INTERVAL_S or done >= total):
            logged.update(at=time.monotonic(), percent=percent)
            logger.info("%s: %d %% (%s)", title, percent, what)

    return log


class CaseReport:
    """Counts the cases of a task and reports those that failed; one failed case does not stop the task.

    Attributes:
        reasons: Why a case failed, by name of the case.
    """

    def __init__(self, title: str, *, to_do: int, already: int, file: Path | None) -> None:
        self.reasons: dict[str, str] = {}
        self._to_do, self._already, self._done = to_do, already, 0
        self._file = file
        self._log_progress = log_percent(title)
        logger.info("%s: %d to do, %d done before", title, to_do, already)
        self._write(now=None, result=None)

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Count the case that runs inside the `with`; its errors are logged and reported, and not raised."""
        self._write(now=name, result=None)
        try:
            yield
        except CT2PETError as error:
            self.reasons[name] = str(error)
            logger.error("%s: %s", name, self.reasons[name])
        except Exception as error:  # a bug or a problem of the machine must not stop the other cases
            self.reasons[name] = f"unexpected {type(error).__name__}; see the server's log"
            logger.error("%s: %s", name, where(error))
        self._done += 1
        self._log_progress(self._done, self._to_do, f"{self._done} of {self._to_do}, {len(self.reasons)} failed")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the final report."""
        self._write(now=None, result=result)

    def require_one_success(self) -> None:
        """Raise an error if all cases failed.

        Raises:
            StudiesError: There were cases, and each one failed.
        """
        if self.reasons and len(self.reasons) == self._to_do:
            raise StudiesError(f"all {self._to_do} cases failed; the first: {next(iter(self.reasons.values()))}")

    def _write(self, *, now: str | None, result: Mapping[str, Any] | None) -> None:
        report = {
            "to_do": self._to_do,
            "done": self._done,
            "already_done": self._already,
            "percent": 100 * self._done // max(1, self._to_do),
            "now": now,
            "failed": len(self.reasons),
            "reasons": dict(list(self.reasons.items())[:MAX_REASONS]),
            "result": result,
        }
        write_report(self._file, report)


def report_file(folder: Path, request: Mapping[str, Any]) -> Path | None:
    """Return the report file of a request's task; None if the request has no report id."""
    name = str(request.get(REPORT_KEY, ""))
    return folder / "tasks" / f"{name}.json" if REPORT_ID.fullmatch(name) else None


def remove_unknown_reports(folder: Path, requests: Iterable[Mapping[str, Any]]) -> None:
    """Remove the old reports of all tasks other than those of the requests.

    They are from before the server's start, or of another server that shares the folder.
    """
    known = {report_file(folder, request) for request in requests}
    for file in (folder / "tasks").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # another server removes it, too
            is_old = file.stat().st_mtime < time.time() - STALE_AFTER_S
            if file not in known and is_old and not file.is_dir():
                file.unlink()


def read_report(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a request's task; None before the task began, or if the file is damaged."""
    file = report_file(folder, request)
    return None if file is None else read_json_object(file)


def report_error(file: Path | None, error: CT2PETError) -> None:
    """Add the error that ends a task to its report; `TaskRunner` shows it in the task's status."""
    report = read_json_object(file) if file is not None else None
    with contextlib.suppress(OSError):  # the disk may be full; the log contains the error, too
        write_report(file, {**(report or {}), ERROR_KEY: error_record(error)})


def write_report(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write a task's report atomically; do nothing if `file` is None."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(sendable(report)))
