"""Trainings, batches and scorings: started one after the other of each kind, in processes of their own, and stopped.

This takes the place of MONAI Label's own runner, and keeps its records (`background_tasks`), so that whatever reads
those goes on working. Unlike there, it is decided under a lock whether a task starts; the request travels by a pipe,
not by the command line, and into no log; and the process gets an environment that is built from nothing.
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
MAX_WAITING = 20  # tasks of one kind that wait for their turn
MAX_ENDED = 100  # tasks of one kind that are remembered after they ended
MAX_LINES = 20  # of a task's output that are remembered
MAX_LINE_BYTES = 4000
OUTPUT_TIMEOUT_S = 10.0  # for the last lines, once the process has ended
ISOLATED = ("-I", "-u", "-X", "utf8")  # no PYTHON* variable, no user's packages, no working directory; no buffer

Task = dict[str, Any]


class TaskRunner:
    """Runs the tasks of one server; of each kind (`train`, `batch_infer`, `scoring`) one at a time."""

    def __init__(self, models_folder: Path) -> None:
        self._models_folder = models_folder
        self._lock = threading.RLock()
        self._working: set[str] = set()  # kinds whose thread is alive

    def start(self, method: str, request: Mapping[str, Any], *, enqueue: bool = False) -> Task | None:
        """Start a task, or let it wait for the others of its kind; return its record.

        Args:
            method: Its kind.
            request: Validated; the process gets nothing else.
            enqueue: Wait where another one of the kind is active; otherwise None is returned.

        Raises:
            BusyError: Too many tasks wait.
        """
        with self._lock:
            if not enqueue and self._is_active(method):
                return None
            return self._add(method, [request])[0]

    def start_all(self, method: str, requests: Sequence[Mapping[str, Any]]) -> list[Task] | None:
        """Start several tasks one after the other and return their records; None where one is active."""
        with self._lock:
            return None if self._is_active(method) else self._add(method, requests)

    def tasks(self, method: str) -> list[Task]:
        """Return copies of the records of a kind, oldest first."""
        with self._lock:
            return [_copy(task) for task in background_tasks.get(method, ())]

    def stop(self, method: str) -> Task | None:
        """Kill the task of a kind that runs, with all processes it started; return its record, or None."""
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
        """Kill every task, at the end of the server."""
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
                f"{waiting} tasks wait already; try again when some are done", code="too_many_tasks", waiting=waiting
            )
        ended = [task for task in known if task["status"] not in ACTIVE]
        for task in ended[: max(0, len(ended) - MAX_ENDED)]:
            known.remove(task)
        self._forget_reports()
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
        except RuntimeError:  # the system gives no more threads
            for task in added:
                self._end(method, task, "the system has no thread left to run it")
        return [_copy(task) for task in added]

    def _work_on(self, method: str) -> None:
        """Make sure that a thread works on the tasks of a kind."""
        if method in self._working:
            return
        atexit.unregister(self.close)
        atexit.register(self.close)
        threading.Thread(target=self._work, args=(method,), name=f"{method} tasks", daemon=True).start()
        self._working.add(method)

    def _forget_reports(self) -> None:
        known = [task["request"] for tasks in background_tasks.values() for task in tasks]
        try:
            remove_unknown_reports(self._models_folder, known)
        except OSError as error:  # they cost a little space, and no task
            logger.warning("reports of former tasks cannot be removed (%s)", type(error).__name__)

    def _work(self, method: str) -> None:
        while (task := self._next(method)) is not None:
            try:
                self._run(method, task)
            except Exception as error:  # the next one must run all the same
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
                process = _started(method)
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
        with contextlib.suppress(OSError), pipe:  # it has ended already: its status says so
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
        """Write down how a task ended: done where there is no reason why it failed."""
        with self._lock:
            background_processes.get(method, {}).pop(task["id"], None)
            if task["status"] == STOPPED:
                return
            task.update(status=ERROR if why_failed else DONE, end_ts=_now())
            task.setdefault("details", deque(maxlen=MAX_LINES))
            if why_failed:
                reported = read_report(self._models_folder, task["request"]) or {}
                task[ERROR_KEY] = reported.get(ERROR_KEY) or {"code": "task_failed", "params": {}, "detail": why_failed}
                told = (
                    f"{task['request'].get('model')} was not trained: {why_failed}" if method == "train" else why_failed
                )
                said = any("was not trained: " in line for line in task["details"])
                if not (method == "train" and said):  # its own reason is the better one
                    logger.error("%s: %s", method, told)
                    task["details"].append(told)


def _started(method: str) -> subprocess.Popen[bytes]:
    """Return the process that waits for a task; it inherits no open file and is the leader of its own group."""
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
    """Return the exit status, once nothing of the process's group is left."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its id stays taken until it is waited for
            _kill_group(process.pid)
    return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, its group, and what left the group."""
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
        return f"its process ended with status {status}; the lines before say why"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _strerror(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "no reason given")


def _copy(task: Task) -> Task:
    copied = {**task, "request": dict(task["request"])}
    return {**copied, "details": list(task["details"])} if "details" in task else copied


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")
