"""The process of a task on the real server: no code of a client's runs in it, and it has what it needs only."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ct2pet_app.server.tasks.environment import explained_variables
from ct2pet_app.server.tasks.process import TASK_PROGRAM
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server, write_users

pytestmark = [pytest.mark.server, pytest.mark.slow]

TASK_TIMEOUT_S = 120.0
LONG_RUN = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=100000;patience=0;validation=0.0;test=0.0"
WRITES_A_FILE = 'import os, sys\nopen({path!r} + "-" + str(os.getpid()), "w").write(" ".join(sys.orig_argv))\n'
SECRETS = {"AWS_SECRET_ACCESS_KEY": "very secret", "GITHUB_TOKEN": "secret, too", "DATABASE_URL": "postgres://u:p@h/d"}
CODE = {"PYTHONSTARTUP": "/tmp/startup.py", "PYTHONBREAKPOINT": "os.system", "LD_AUDIT": "/tmp/audit.so"}
NOT_FOR_US = {"bundle_path": "{archive}", "gpus": "7", "local_rank": 3, "client_id": "me"}


@pytest.fixture(scope="module")
def server(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose environment holds secrets, and folders with code that the operator did not mean for tasks."""
    folder = tmp_path_factory.mktemp("isolated")
    (folder / "operator").mkdir()
    (folder / "operator" / "sitecustomize.py").write_text(WRITES_A_FILE.format(path=str(folder / "of-PYTHONPATH")))
    variables = {**SECRETS, **CODE, "PYTHONPATH": str(folder / "operator")}
    save_constant_model(folder / "models" / "cascade3" / "model.safetensors", 2.5)
    conf: dict[str, str | Path] = {"models": "unet,cascade3", "set": LONG_RUN, "width": "2"}
    with running_server("ct2pet_app", phantoms, folder, variables=variables, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def folder(server: RunningServer) -> Path:
    return server.log.parent


@pytest.fixture
def archive(server: RunningServer, folder: Path) -> Path:
    """A client's upload that the server keeps: Python imports its module by itself where the zip is on its path."""
    return write_archive(folder)


def write_archive(folder: Path) -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        zipped.writestr("sitecustomize.py", WRITES_A_FILE.format(path=str(folder / "of-a-client")))
    path = folder / "models" / "attack.zip"  # an attacker can find out the path of a session
    path.write_bytes(content.getvalue())
    return path


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {TASK_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    return value


def ended(server: RunningServer, path: str) -> dict[str, Any]:
    def task() -> dict[str, Any] | None:
        newest: dict[str, Any] = server.json(path)
        return newest if newest["status"] not in ("SUBMITTED", "RUNNING") else None

    found: dict[str, Any] = wait_until(task)
    return found


def task_processes(server: RunningServer) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if str(TASK_PROGRAM) in process.cmdline():
                found.append(process)
    return found


@pytest.mark.parametrize(
    ("start", "status", "sent"),
    [
        ("/scoring/metrics", "/scoring/", {"model": "cascade3"}),
        ("/batch/infer/cascade3?images=unlabeled", "/batch/infer", {"max_workers": 2}),
        ("/train/unet", "/train/", {"max_epochs": 1, "multi_gpu": True}),
    ],
)
def test_no_code_of_a_client_runs_in_a_task(
    server: RunningServer, folder: Path, archive: Path, start: str, status: str, sent: dict[str, Any]
) -> None:
    params = {key: str(archive) if value == "{archive}" else value for key, value in NOT_FOR_US.items()}
    if start.startswith("/batch"):
        params.pop("local_rank")
    answer = server.request("POST", start, json={**params, **sent})
    assert answer.status_code == 200, answer.text
    task = ended(server, status)
    assert task["status"] == "DONE", task
    assert not list(folder.glob("of-a-client*"))
    assert not set(task["request"]) & {*NOT_FOR_US, "multi_gpu", "max_workers"}
    in_tasks = [path for path in folder.glob("of-PYTHONPATH-*") if TASK_PROGRAM.name in path.read_text()]
    assert list(folder.glob("of-PYTHONPATH-*")) and not in_tasks  # in the server, whose operator configured it
    assert str(archive) not in server.log.read_text()


POISON = {
    "NaN": b"NaN",
    "infinite": b"1e999",
    "surrogate": rb'"\ud800"',
    "NUL": rb'"a\u0000b"',
    "deep": b"[" * 500 + b"]" * 500,
    "large": b'"' + b"x" * 200_000 + b'"',
    "many digits": b"9" * 4000,
}
STARTS = {
    "/train/unet": b'{"client_id": %s}',
    "/train/": b'{"unet": {"gpus": %s}}',
    "/batch/infer/cascade3": b'{"bundle_path": %s}',
    "/scoring/metrics": b'{"client_id": %s}',
    "/scoring/": b'{"metrics": {"bundle_path": %s}}',
}


def test_what_could_not_be_sent_back_starts_nothing(server: RunningServer) -> None:
    responses = {
        path: server.request("GET", f"{path}?all=true").text for path in ("/train/", "/scoring/", "/batch/infer")
    }
    for path, template in STARTS.items():
        for name, value in POISON.items():
            headers = {"Content-Type": "application/json"}
            answer = server.request("POST", path, data=template % value, headers=headers)
            assert answer.status_code == (413 if name == "large" else 400), (path, name, answer.text)
            assert len(answer.json()["detail"].split()) > 3
    assert responses == {path: server.request("GET", f"{path}?all=true").text for path in responses}


def test_a_task_sees_only_what_is_explained_and_inherits_nothing(server: RunningServer, folder: Path) -> None:
    answer = server.request("POST", "/train/unet", json={"tracking_run_name": "not for ps"})
    assert answer.status_code == 200, answer.text
    (process,) = wait_until(lambda: task_processes(server))
    wait_until(lambda: server.json("/info/")["train_stats"]["unet"].get("epoch"))
    environment = process.environ()
    assert set(environment) <= set(explained_variables("train")), set(environment) - set(explained_variables("train"))
    assert environment["MONAI_LABEL_STUDIES"] and environment["TMPDIR"].startswith(str(folder / "models"))
    assert not set(SECRETS.values()) & set(environment.values())
    assert "not for ps" not in " ".join(process.cmdline()) and len(" ".join(process.cmdline())) < 1000
    assert not process.net_connections()  # neither the listening socket nor a client's
    inherited = [opened.path for opened in process.open_files() if str(folder / "models" / "temporary") in opened.path]
    assert not inherited  # the lock of the server's temporary folder
    assert server.request("DELETE", "/train/").json()["status"] == "STOPPED"
    wait_until(lambda: not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE)
    assert server.json("/train/")["status"] == "STOPPED"


def test_of_many_that_start_at_once_one_does(server: RunningServer) -> None:
    before = len(server.json("/train/?all=true")) if server.request("GET", "/train/").status_code == 200 else 0
    with ThreadPoolExecutor(8) as clients:
        paths = ["/train/unet", "/train/cascade3", "/train/unet", "/train/"] * 2
        statuses = list(clients.map(lambda path: server.request("POST", path, json={}).status_code, paths))
    started = len(server.json("/train/?all=true")) - before
    while server.request("DELETE", "/train/").json() is not None:
        pass
    assert sorted(statuses) == [200] + [429] * 7
    assert started in (1, 2)  # POST /train/ starts one of each model
    wait_until(lambda: not task_processes(server))


def test_an_annotator_runs_no_code_either_and_a_task_ends_with_its_server(phantoms: Path, tmp_path: Path) -> None:
    save_constant_model(tmp_path / "models" / "cascade3" / "model.safetensors", 2.5)
    with running_server("ct2pet_app", phantoms, tmp_path, users=write_users(tmp_path)) as running:
        annotator, archive = running.logged_in_as("ann"), write_archive(tmp_path)
        assert annotator.request("POST", "/scoring/metrics", json={"bundle_path": str(archive)}).status_code == 200
        assert ended(annotator, "/scoring/")["status"] == "DONE"
        assert not list(tmp_path.glob("of-a-client*"))
        assert annotator.request("POST", "/scoring/metrics", json={}).status_code == 200
        (process,) = wait_until(lambda: task_processes(running))  # it has not even imported torch
        running.process.kill()
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
