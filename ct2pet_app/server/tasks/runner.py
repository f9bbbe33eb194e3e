"""Start and stop trainings, batches and scorings, each in its own process, one task of each kind at a time.

Replaces MONAI Label's runner and keeps its records (`background_tasks`), so that code that reads them still works.
Differences: a lock decides whether a task starts; the request is passed by a pipe, not on the command line, and is not
logged; the process gets a clean environment.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from monailabel.utils.async_tasks.utils import background_processes, background_tasks

from ct2pet_app.errors import BusyError
from ct2pet_app.server.log_redaction import where
from ct2pet_app.server.tasks.environment import task_environment
from ct2pet_app.server.tasks.process import TASK_PROGRAM
from ct2pet_app.server.tasks.progress import ERROR_KEY, REPORT_KEY, read_report, remove_unknown_reports

logger = logging.getLogger(__name__)

SUBMITTED, RUNNING, DONE, ERROR, STOPPED = "SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"  # MONAI Label's
ACTIVE = frozenset({SUBMITTED, RUNNING})
MAX_WAITING = 20  # queued tasks of one kind
MAX_ENDED = 100  # ended tasks of one kind that are remembered
MAX_LINES = 20  # of a task's output
MAX_LINE_BYTES = 4000
OUTPUT_TIMEOUT_S = 10.0  # for the last lines after the process has ended
ISOLATED = ("-I", "-u", "-X", "utf8")  # no PYTHON* variables, user packages or working directory; unbuffered

Task = dict[str, Any]


class TaskRunner:
    """Runs the tasks of one server; of each kind (`train`, `batch_infer`, `scoring`) one at a time."""

    def __init__(self, models_folder: Path) -> None:
        self._models_folder = models_folder
        self._lock = threading.RLock()
        self._working: set[str] = set()  # kinds whose thread is alive

    def start(self, method: str, request: Mapping[str, Any], *, enqueue: bool = False) -> Task | None:
        """Start or enqueue a task and return its record.

        Args:
            method: Its kind.
            request: Validated; passed to the process.
            enqueue: Whether to enqueue the task if another one of the kind is active; otherwise None is returned.

        Raises:
            BusyError: Too many tasks are queued.
        """
        with self._lock:
            if not enqueue and self._is_active(method):
                return None
            return self._add(method, [request])[0]

    def start_all(self, method: str, requests: Sequence[Mapping[str, Any]]) -> list[Task] | None:
        """Enqueue several tasks and return their records; None if one is active."""
        with self._lock:
            return None if self._is_active(method) else self._add(method, requests)

    def tasks(self, method: str) -> list[Task]:
        """Return copies of the records of a kind, oldest first."""
        with self._lock:
            return [_copy(task) for task in background_tasks.get(method, ())]

    def stop(self, method: str) -> Task | None:
        """Kill the active task of a kind with all processes that it started; return its record, or None."""
        with self._lock:
            active = [task for task in background_tasks.get(method, ()) if task["status"] in ACTIVE]
            if not active:
                return None
            task = active[0]
            task.update(status=STOPPED, end_ts=_now())
            process = background_processes.get(method, {}).pop(task["id"], None)
            if process is not None:
                _kill(process)
            return _copy(task)

    def close(self) -> None:
        """Kill all tasks when the server shuts down."""
        with self._lock:
            for method in tuple(background_processes):
                for process in background_processes[method].values():
                    _kill(process)

    def _is_active(self, method: str) -> bool:
        return any(task["status"] in ACTIVE for task in background_tasks.get(method, ()))

    def _add(self, method: str, requests: Sequence[Mapping[str, Any]]) -> list[Task]:
        known = background_tasks.setdefault(method, [])
        background_processes.setdefault(method, {})
        waiting = sum(task["status"] == SUBMITTED for task in known)
        if waiting + len(requests) > MAX_WAITING + 1:
            raise BusyError(
                f"{waiting} tasks are queued already; try again when some are done",
                code="too_many_tasks",
                waiting=waiting,
            )
        ended = [task for task in known if task["status"] not in ACTIVE]
        for task in ended[: max(0, len(ended) - MAX_ENDED)]:
            known.remove(task)
        self._remove_old_reports()
        added = [
            {
                "id": str(uuid.uuid4()),
                "status": SUBMITTED,
                "request": {**request, REPORT_KEY: uuid.uuid4().hex},
                "start_ts": _now(),
            }
            for request in requests
        ]
        known.extend(added)
        try:
            self._work_on(method)
        except RuntimeError:  # the system cannot start more threads
            for task in added:
                self._end(method, task, "the system cannot start another thread to run it")
        return [_copy(task) for task in added]

    def _work_on(self, method: str) -> None:
        """Start a thread for the tasks of a kind if there is none."""
        if method in self._working:
            return
        atexit.unregister(self.close)
        atexit.register(self.close)
        threading.Thread(target=self._work, args=(method,), name=f"{method} tasks", daemon=True).start()
        self._working.add(method)

    def _remove_old_reports(self) -> None:
        known = [task["request"] for tasks in background_tasks.values() for task in tasks]
        try:
            remove_unknown_reports(self._models_folder, known)
        except OSError as error:  # only disk space is lost
            logger.warning("reports of former tasks cannot be removed (%s)", type(error).__name__)

    def _work(self, method: str) -> None:
        while (task := self._next(method)) is not None:
            try:
                self._run(method, task)
            except Exception as error:  # the next task must run
                logger.error("%s: task %s was lost: %s", method, task["id"], where(error))
                process = background_processes.get(method, {}).get(task["id"])
                if process is not None:
                    _kill(process)
                self._end(method, task, f"cannot be run ({type(error).__name__})")

    def _next(self, method: str) -> Task | None:
        with self._lock:
            waiting = (task for task in background_tasks.get(method, ()) if task["status"] == SUBMITTED)
            task: Task | None = next(waiting, None)
            if task is None:
                self._working.discard(method)
            return task

    def _run(self, method: str, task: Task) -> None:
        with self._lock:
            if task["status"] != SUBMITTED:  # stopped while it waited
                return
            task["details"] = deque(maxlen=MAX_LINES)
            try:
                process = _start_process(method)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self._end(method, task, f"its process cannot be started ({type(error).__name__}: {_strerror(error)})")
                return
            background_processes.setdefault(method, {})[task["id"]] = process
            task["status"] = RUNNING
        logger.info("%s: task %s runs as process %d", method, task["id"], process.pid)
        reader = threading.Thread(target=self._read, args=(method, task, process), daemon=True)
        reader.start()
        order = {"server_pid": os.getpid(), "method": method, "request": task["request"]}
        pipe = process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError), pipe:  # the process has ended; its status gives the reason
            pipe.write(json.dumps(order, allow_nan=False).encode())
        status = _wait(process)
        reader.join(OUTPUT_TIMEOUT_S)
        logger.info("%s: task %s ended with status %d", method, task["id"], status)
        self._end(method, task, _why_failed(status))

    def _read(self, method: str, task: Task, process: subprocess.Popen[bytes]) -> None:
        output = logging.getLogger(f"task_{method}")
        pipe = process.stdout
        assert pipe is not None
        with pipe:
            while piece := pipe.readline(MAX_LINE_BYTES):
                line = piece.decode("utf-8", "replace").rstrip()
                if line:
                    output.info(line)
                    with self._lock:
                        task["details"].append(line)

    def _end(self, method: str, task: Task, why_failed: str) -> None:
        """Record how a task ended: an empty `why_failed` means done."""
        with self._lock:
            background_processes.get(method, {}).pop(task["id"], None)
            if task["status"] == STOPPED:
                return
            task.update(status=ERROR if why_failed else DONE, end_ts=_now())
            task.setdefault("details", deque(maxlen=MAX_LINES))
            if why_failed:
                reported = read_report(self._models_folder, task["request"]) or {}
                task[ERROR_KEY] = reported.get(ERROR_KEY) or {"code": "task_failed", "params": {}, "detail": why_failed}
                message = (
                    f"{task['request'].get('model')} was not trained: {why_failed}" if method == "train" else why_failed
                )
                is_explained = any("was not trained: " in line for line in task["details"])
                if not (method == "train" and is_explained):  # the task's own message is more specific
                    logger.error("%s: %s", method, message)
                    task["details"].append(message)


def _start_process(method: str) -> subprocess.Popen[bytes]:
    """Start a process that reads its task from standard input; it inherits no open file and leads its own group."""
    return subprocess.Popen(
        [sys.executable, *ISOLATED, str(TASK_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=task_environment(method),
        close_fds=True,
        start_new_session=True,
    )


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, kill the rest of its group, and return the exit status."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # WNOWAIT keeps the pid reserved until wait()
            _kill_group(process.pid)
    return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its group, and its descendants outside the group."""
    descendants: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        descendants = psutil.Process(process.pid).children(recursive=True)
    if process.returncode is None:
        _kill_group(process.pid)
        with contextlib.suppress(OSError):
            process.kill()
    for descendant in descendants:
        with contextlib.suppress(psutil.Error):
            descendant.kill()


def _kill_group(group: int) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def _why_failed(status: int) -> str:
    if status == 0:
        return ""
    if status > 0:
        return f"its process ended with status {status}; see the log lines before"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = ", which usually means that the system ran out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _strerror(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "no reason given")


def _copy(task: Task) -> Task:
    copied = {**task, "request": dict(task["request"])}
    return {**copied, "details": list(task["details"])} if "details" in task else copied


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
