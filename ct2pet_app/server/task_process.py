"""The process that MONAI Label starts for a training, a batch or a scoring."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

from lib.errors import CT2PETError

logger = logging.getLogger(__name__)

STARTED_AS = "monailabel.interfaces.utils.app"


def is_task_process() -> bool:
    """Return whether this process was started for one task, rather than being the server or a test."""
    return getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", "") == STARTED_AS


@contextlib.contextmanager
def task_process(what: str) -> Iterator[None]:
    """Do a task inside the `with`: ended with its server, and with one line that says why it failed.

    Anywhere but in a process of its own it does nothing.

    Raises:
        SystemExit: The task failed; its reason is the last line of the log, of which the server keeps 20.
    """
    if not is_task_process():
        yield
        return
    end_with_parent()
    try:
        yield
    except CT2PETError as error:
        logger.error("%s ended: %s", what, error)
        raise SystemExit(1) from error


def end_with_parent() -> None:
    """End this process when the server that started it is gone: nobody could stop it any more, or ask how it does.

    A run goes on from its last epoch when it is asked for again.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
