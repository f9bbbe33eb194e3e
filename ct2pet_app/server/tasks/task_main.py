"""The program of a task's process. Run as a file by the server's `TaskRunner`; never imported.

Its request comes from standard input, so that neither `ps` nor the system's limit on command lines has to do with it.
Python is started in isolated mode: neither the working directory, nor the user's packages, nor `PYTHONPATH` is searched
for modules.
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
    """End this process as soon as the server that started it is gone."""

    def watch() -> None:
        while os.getppid() == server_pid:
            time.sleep(POLL_INTERVAL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def run() -> int:
    """Read the task from standard input, do it, and return the exit status."""
    task = json.loads(sys.stdin.buffer.read())
    end_with(task["server_pid"])
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("monailabel").setLevel(logging.WARNING)  # it logs the server's folders and settings
    logger = logging.getLogger("ct2pet_app.task")
    gc.disable()  # importing MONAI leaves no garbage, and searching for it takes a fifth of the time
    try:
        # imported only now: the process can be ended meanwhile, and nothing of ours may be loaded before the app is
        from monailabel.interfaces.utils.app import app_instance
    except ModuleNotFoundError as error:
        logger.error(
            "%s cannot be imported: a task uses neither PYTHONPATH nor packages of the user's home; install the "
            "requirements into the Python environment of the server", error.name,
        )  # fmt: skip
        return 1
    gc.freeze()
    gc.enable()
    methods = {"train": "train", "batch_infer": "batch_infer", "scoring": "scoring"}
    try:
        getattr(app_instance(), methods[task["method"]])(task["request"])
    except Exception as error:  # a traceback would show the server's paths, and what a file says, to every client
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        place = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        logger.error("%s ended unexpectedly: %s at %s", task["method"], type(error).__name__, place)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
