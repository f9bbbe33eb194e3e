"""Tasks in child processes: started one at a time, ended with their children, and never left SUBMITTED."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from monailabel.endpoints import batch_infer, scoring, train
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import background_processes, background_tasks

from ct2pet_app.api import models, tasks
from ct2pet_app.errors import BusyError
from ct2pet_app.server.tasks import runner as task_runner
from ct2pet_app.server.tasks.environment import environment_table, explained_variables, task_environment
from ct2pet_app.server.tasks.process import TASK_PROGRAM
from ct2pet_app.server.tasks.progress import report_error, report_file
from ct2pet_app.server.tasks.runner import MAX_WAITING, TaskRunner
from lib.errors import MemoryLimitError

TIMEOUT_S = 60.0
REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAMS = {
    "done": "import sys; sys.stdin.read(); print('it is done')",
    "failed": "import sys; sys.stdin.read(); print('unet was not trained: no pairs'); sys.exit(1)",
    "silent": "import sys; sys.exit(3)",
    "killed": "import os, sys; sys.stdin.read(); os.kill(os.getpid(), 9)",
    "deaf": "import os; os.close(0)",
    "loud": "import sys; sys.stdin.read(); sys.stdout.write('x' * 10_000_000); sys.stdout.buffer.write(b'\\xff\\n')",
    "endless": "import sys, time; sys.stdin.read(); print('begun', flush=True); time.sleep(1000)",
    "parent": "import os, subprocess, sys; sys.stdin.read(); "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); print(child.pid, flush=True)",
    "echo": "import json, os, sys; print(json.dumps([json.load(sys.stdin), sorted(os.environ), sys.path, sys.argv]))",
}


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[TaskRunner]:
    background_tasks.clear()
    background_processes.clear()
    runner = TaskRunner(tmp_path / "models")
    yield runner
    for method in ("train", "scoring", "batch_infer"):
        while runner.stop(method) is not None:
            pass
    wait_until(lambda: not runner._working)
    background_tasks.clear()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that chooses what the processes of tasks do."""

    def choose(name: str) -> None:
        path = tmp_path / f"{name}.py"
        path.write_text(PROGRAMS[name])
        monkeypatch.setattr(task_runner, "TASK_PROGRAM", path)

    return choose


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {TIMEOUT_S:.0f} s")
        time.sleep(0.02)
    return value


def ended(runner: TaskRunner, method: str = "scoring") -> dict[str, Any]:
    wait_until(lambda: all(task["status"] not in ("SUBMITTED", "RUNNING") for task in runner.tasks(method)))
    return runner.tasks(method)[-1]


@pytest.mark.parametrize(
    ("name", "status", "line"),
    [
        ("done", "DONE", "it is done"),
        ("failed", "ERROR", "its process ended with status 1"),
        ("silent", "ERROR", "its process ended with status 3"),
        ("killed", "ERROR", "its process was ended by SIGKILL, which usually means that the system ran out of memory"),
        ("deaf", "DONE", None),
    ],
)
def test_a_task_ends_with_a_status_and_a_reason(
    runner: TaskRunner, program: Callable[[str], None], name: str, status: str, line: str | None
) -> None:
    program(name)
    runner.start("scoring", {"method": "metrics"})
    task = ended(runner)
    assert (task["status"], "end_ts" in task) == (status, True)
    assert line is None or task["details"][-1].startswith(line)


def test_the_reason_of_a_training_is_the_one_it_gave_itself_or_how_its_process_ended(
    runner: TaskRunner, program: Callable[[str], None]
) -> None:
    for name, line in (("failed", "unet was not trained: no pairs"), ("killed", "unet was not trained: its process")):
        program(name)
        runner.start("train", {"model": "unet"})
        assert ended(runner, "train")["details"][-1].startswith(line)


def test_the_status_of_a_failed_task_has_the_error_that_it_reported(
    runner: TaskRunner, program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("silent")
    assert runner.start("scoring", {"method": "metrics"}) is not None
    assert ended(runner)["error"] == {
        "code": "task_failed",
        "params": {},
        "detail": "its process ended with status 3; see the log lines before",
    }
    error = MemoryLimitError("too much", needed_mb=2, limit_mb=1)
    original = task_runner._start_process

    def reports(method: str) -> subprocess.Popen[bytes]:
        report_error(report_file(tmp_path / "models", runner.tasks(method)[-1]["request"]), error)
        return original(method)

    monkeypatch.setattr(task_runner, "_start_process", reports)
    assert runner.start("scoring", {"method": "metrics"}) is not None
    assert ended(runner)["error"] == {
        "code": "memory_limit",
        "params": {"needed_mb": 2, "limit_mb": 1},
        "detail": "too much; or start the server with a larger --conf memory_gb",
    }
    assert "error" not in runner.tasks("scoring")[0]["request"]
    program("done")
    monkeypatch.setattr(task_runner, "_start_process", original)
    runner.start("scoring", {"method": "metrics"})
    assert "error" not in ended(runner)


@pytest.mark.parametrize("failure", [OSError(7, "Argument list too long"), ValueError("embedded null byte")])
def test_a_task_that_cannot_be_started_says_so(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "Popen", fail)
    runner.start("scoring", {"method": "metrics"})
    task = ended(runner)
    assert task["status"] == "ERROR" and task["details"][-1].startswith("its process cannot be started")


def test_a_task_is_not_left_where_the_system_gives_no_thread(
    runner: TaskRunner, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    program("done")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        started = runner.start("scoring", {})
    assert started is not None and started["status"] == "ERROR"
    runner.start("scoring", {})
    assert ended(runner)["status"] == "DONE"


def test_endless_lines_and_broken_text_are_remembered_in_part(
    runner: TaskRunner, program: Callable[[str], None]
) -> None:
    program("loud")
    runner.start("scoring", {})
    details = ended(runner)["details"]
    assert len(details) == task_runner.MAX_LINES and max(map(len, details)) <= task_runner.MAX_LINE_BYTES
    json.dumps(details).encode()


def test_of_many_that_start_at_once_one_does(runner: TaskRunner, program: Callable[[str], None]) -> None:
    program("endless")
    with ThreadPoolExecutor(16) as clients:
        started = list(clients.map(lambda number: runner.start("train", {"model": str(number)}), range(64)))
    assert sum(task is not None for task in started) == 1
    assert len(runner.tasks("train")) == 1
    assert runner.start_all("train", [{}, {}]) is None
    assert runner.start("scoring", {}) is not None  # of another kind


def test_those_that_wait_run_one_after_the_other_and_are_not_without_number(
    runner: TaskRunner, program: Callable[[str], None]
) -> None:
    program("endless")
    runner.start("train", {"model": "a"})
    wait_until(lambda: runner.tasks("train")[0]["status"] == "RUNNING")
    program("done")
    waiting = [runner.start("train", {"model": "b"}, enqueue=True) for _ in range(MAX_WAITING + 1)]
    assert {task["status"] for task in waiting if task} == {"SUBMITTED"}
    with pytest.raises(BusyError, match="tasks are queued already"):
        runner.start("train", {}, enqueue=True)
    stopped = runner.stop("train")
    assert stopped is not None and (stopped["status"], stopped["request"]["model"]) == ("STOPPED", "a")
    ended(runner, "train")
    assert [task["status"] for task in runner.tasks("train")] == ["STOPPED"] + ["DONE"] * (MAX_WAITING + 1)


def test_old_records_are_forgotten(
    runner: TaskRunner, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "MAX_ENDED", 2)
    program("silent")
    for _ in range(5):
        runner.start("scoring", {})
        ended(runner)
    assert len(runner.tasks("scoring")) == 3


def test_stopping_kills_all_that_a_task_started(runner: TaskRunner, program: Callable[[str], None]) -> None:
    program("endless")
    runner.start("train", {"model": "unet"})
    wait_until(lambda: runner.tasks("train")[0].get("details"))
    (process,) = background_processes["train"].values()
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    runner.stop("train")
    wait_until(lambda: not psutil.pid_exists(process.pid))
    assert (runner.stop("train"), runner.tasks("train")[0]["status"]) == (None, "STOPPED")


def test_what_a_task_leaves_running_is_ended_with_it(runner: TaskRunner, program: Callable[[str], None]) -> None:
    program("parent")
    runner.start("scoring", {})
    pid = int(ended(runner)["details"][0])

    def has_ended() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    wait_until(has_ended)
    assert has_ended()


def test_a_task_that_waits_can_be_stopped_before_it_begins(
    runner: TaskRunner, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("done")
    monkeypatch.setattr(TaskRunner, "_work_on", lambda self, method: None)  # the thread comes late
    runner.start("scoring", {})
    assert runner.stop("scoring") is not None
    runner._work("scoring")
    assert ended(runner)["status"] == "STOPPED"


def test_a_process_sees_its_request_and_what_is_explained_only(
    runner: TaskRunner, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD", "AWS_SECRET_ACCESS_KEY", "BASH_ENV"):
        monkeypatch.setenv(name, str(tmp_path) if name != "PYTHONHOME" else sys.prefix)
    monkeypatch.chdir(tmp_path)
    program("echo")
    runner.start("batch_infer", {"model": "unet"})
    order, environment, path, arguments = json.loads(ended(runner, "batch_infer")["details"][0])
    report = order["request"].pop("report")
    assert order == {"server_pid": os.getpid(), "method": "batch_infer", "request": {"model": "unet"}}
    assert len(report) == 32 and report not in " ".join(arguments)
    assert set(environment) <= set(explained_variables("batch_infer"))
    assert str(tmp_path) not in path and "" not in path
    assert AsyncTask.status("batch_infer")[0]["status"] == "DONE"  # as MONAI Label's own addresses read it


def test_search_paths_lose_what_could_be_written_by_clients() -> None:
    own = {"PATH": "/usr/bin:.::bin:/app/bin", "LD_LIBRARY_PATH": ".", "MONAI_LABEL_APP_DIR": "/app"}
    passed = task_environment("train", own)
    assert passed["PATH"] == "/usr/bin"
    assert passed.get("LD_LIBRARY_PATH", "") == ""


def test_a_password_of_the_tracking_server_reaches_trainings_only() -> None:
    own = {"MLFLOW_TRACKING_PASSWORD": "secret", "HOME": "/root"}
    assert "MLFLOW_TRACKING_PASSWORD" in task_environment("train", own)
    expected = {"HOME", "MONAI_LABEL_DATASTORE_AUTO_RELOAD", "GOMP_SPINCOUNT"}
    assert set(task_environment("scoring", own)) == expected


@pytest.mark.parametrize("method", ["train", "scoring", "batch_infer"])
def test_every_variable_has_a_reason(method: str) -> None:
    assert all(len(reason.split()) > 1 for reason in explained_variables(method).values())
    table = environment_table()
    assert all(f"| `{name}` |" in table for name in explained_variables(method))
    assert table in (REPOSITORY / "docs" / "task-environment.md").read_text()


def test_no_address_reaches_monai_labels_own_runner() -> None:
    def addresses(*routers: Any) -> set[tuple[str, str]]:
        return {(method, route.path) for router in routers for route in router.routes for method in route.methods}

    stock = addresses(train.router, batch_infer.router, scoring.router)
    assert len(stock) >= 10
    assert stock <= addresses(models.router, tasks.router)


def test_the_program_ends_with_its_server() -> None:
    """Before it imports anything, too."""
    order = {"server_pid": 1, "method": "train", "request": {}}  # it was started by this process
    done = subprocess.run([sys.executable, "-I", TASK_PROGRAM], input=json.dumps(order).encode(), timeout=TIMEOUT_S,
                          capture_output=True, env={}, check=False)  # fmt: skip
    assert done.returncode == 1
