"""The process that the server's `TaskRunner` starts for a training, a batch or a scoring."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from ct2pet_app.advice import detail_of
from ct2pet_app.server.tasks.progress import report_error
from lib.errors import CT2PETError

logger = logging.getLogger(__name__)

TASK_PROGRAM = Path(__file__).resolve().with_name("task_main.py")


def is_task_process() -> bool:
    """Return whether this process was started for one task, and is not the server or a test."""
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return program is not None and Path(program).resolve() == TASK_PROGRAM


@contextlib.contextmanager
def task_process(what: str, report: Path | None) -> Iterator[None]:
    """Log and report an error of the task that runs inside the `with`, then exit.

    Outside a task's process it does nothing.

    Args:
        what: The task, for the log.
        report: The task's report, to which the error is added.

    Raises:
        SystemExit: The task failed; the last line of the log gives the reason (the server keeps 20 lines).
    """
    if not is_task_process():
        yield
        return
    try:
        yield
    except CT2PETError as error:
        logger.error("%s ended: %s", what, detail_of(error))
        report_error(report, error)
        raise SystemExit(1) from error
