"""The program of a task's process. Run as a file by the server's `TaskRunner`; never imported.

It reads its request from standard input: the request does not appear in `ps`, and its length is not limited. Python
runs in isolated mode: it does not search the working directory, user packages or `PYTHONPATH` for modules.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path

POLL_INTERVAL_S = 1.0
LOG_FORMAT = "[%(asctime)s] [%(process)s] [%(threadName)s] [%(levelname)s] (%(name)s:%(lineno)d) - %(message)s"


def end_with(server_pid: int) -> None:
    """Exit as soon as the server that started this process has ended."""

    def watch() -> None:
        while os.getppid() == server_pid:
            time.sleep(POLL_INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def run() -> int:
    """Read the task from standard input, run it, and return the exit status."""
    task = json.loads(sys.stdin.buffer.read())
    end_with(task["server_pid"])
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("monailabel").setLevel(logging.WARNING)  # it logs the server's folders and settings
    logging.getLogger("ignite").setLevel(logging.WARNING)  # its lines would displace the progress: the server keeps 20
    logger = logging.getLogger("ct2pet_app.task")
    gc.disable()  # importing MONAI creates no garbage; collecting takes a fifth of the import time
    try:
        # imported here so that the parent watch runs already; the app must be loaded before other modules of ours
        from monailabel.interfaces.utils.app import app_instance
    except ModuleNotFoundError as error:
        logger.error(
            "%s cannot be imported: a task uses neither PYTHONPATH nor user packages; install the "
            "requirements into the Python environment of the server", error.name,
        )  # fmt: skip
        return 1
    gc.freeze()
    gc.enable()
    methods = {"train": "train", "batch_infer": "batch_infer", "scoring": "scoring"}
    try:
        app = app_instance()
        from lib.processors import yield_processors

        yield_processors()  # to the requests that the server answers meanwhile
        getattr(app, methods[task["method"]])(task["request"])
    except Exception as error:  # a traceback would show paths and file contents to clients
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        place = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        logger.error("%s ended unexpectedly: %s at %s", task["method"], type(error).__name__, place)
        return 1
    return 0


if __name__ == "__main__":
    exit_status = run()
    gc.freeze()  # the last collection would walk over all of torch: 0.4 s
    sys.exit(exit_status)
