"""How a training, a batch or a scoring gets on: percents in the log, and a file that the server reads while it runs.

MONAI Label keeps the last 20 lines of a task's log. That does for percents; which of a thousand cases failed, and why,
would be pushed out of it.
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
MAX_REASONS = 200  # that are told; how many failed is always told
REPORT_ID = re.compile(r"[0-9a-f]{32}")
REPORT_KEY = "report"  # of a task's request: the id that the server gave its report
ERROR_KEY = "error"  # of a report, and of a task's status: code, params and detail of the error that ended the task


def log_percent(title: str) -> Progress:
    """Return a progress that logs percents, at most one line in 5 seconds: the server keeps the last 20 lines."""
    told = {"at": float("-inf"), "percent": -1}

    def tell(done: int, total: int, what: str) -> None:
        percent = 100 * done // max(1, total)
        if percent != told["percent"] and (time.monotonic() - told["at"] >= LOG_INTERVAL_S or done >= total):
            told.update(at=time.monotonic(), percent=percent)
            logger.info("%s: %d %% (%s)", title, percent, what)

    return tell


class CaseReport:
    """Counts the cases of a task and tells of each one that failed; the rest goes on.

    Attributes:
        reasons: Why cases failed, by case.
    """

    def __init__(self, title: str, *, to_do: int, already: int, file: Path | None) -> None:
        self.reasons: dict[str, str] = {}
        self._to_do, self._already, self._done = to_do, already, 0
        self._file = file
        self._tell = log_percent(title)
        logger.info("%s: %d to do, %d done before", title, to_do, already)
        self._write(now=None, result=None)

    @contextlib.contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Do one case inside the `with`. What goes wrong there is logged and told with its reason, and ends there."""
        self._write(now=name, result=None)
        try:
            yield
        except CT2PETError as error:
            self.reasons[name] = str(error)
            logger.error("%s: %s", name, self.reasons[name])
        except Exception as error:  # our fault or the machine's; a thousand other cases need not pay for it
            self.reasons[name] = f"unexpected {type(error).__name__}; the server's log says where"
            logger.error("%s: %s", name, where(error))
        self._done += 1
        self._tell(self._done, self._to_do, f"{self._done} of {self._to_do}, {len(self.reasons)} failed")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell what came of it all."""
        self._write(now=None, result=result)

    def require_one_success(self) -> None:
        """Return where a case worked, or there was none to do.

        Raises:
            StudiesError: There were some, and each one failed.
        """
        if self.reasons and len(self.reasons) == self._to_do:
            raise StudiesError(f"not one of {self._to_do} worked; the first: {next(iter(self.reasons.values()))}")

    def _write(self, *, now: str | None, result: Mapping[str, Any] | None) -> None:
        told = {
            "to_do": self._to_do,
            "done": self._done,
            "already_done": self._already,
            "percent": 100 * self._done // max(1, self._to_do),
            "now": now,
            "failed": len(self.reasons),
            "reasons": dict(list(self.reasons.items())[:MAX_REASONS]),
            "result": result,
        }
        write_report(self._file, told)


def report_file(folder: Path, request: Mapping[str, Any]) -> Path | None:
    """Return where the task of a request tells how it does; None for one that the server gave no report."""
    name = str(request.get(REPORT_KEY, ""))
    return folder / "tasks" / f"{name}.json" if REPORT_ID.fullmatch(name) else None


def remove_unknown_reports(folder: Path, requests: Iterable[Mapping[str, Any]]) -> None:
    """Remove the reports of tasks that the server does not know any more: those of before its start."""
    known = {report_file(folder, request) for request in requests}
    for file in (folder / "tasks").glob("*.json"):
        if file not in known and not file.is_dir():
            file.unlink(missing_ok=True)


def read_report(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the task of a request has told; None before it began, and where the file is damaged."""
    file = report_file(folder, request)
    return None if file is None else read_json_object(file)


def report_error(file: Path | None, error: CT2PETError) -> None:
    """Add the error that ends a task to its report; `TaskRunner` shows it in the task's status."""
    report = read_json_object(file) if file is not None else None
    with contextlib.suppress(OSError):  # the disk may be full: the log has the error, too
        write_report(file, {**(report or {}), ERROR_KEY: error_record(error)})


def write_report(file: Path | None, report: Mapping[str, Any]) -> None:
    """Write what a task tells, whole; nothing for a task that the server gave no report."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(sendable(report)))
