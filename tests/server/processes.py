"""The real MONAI Label server with our app, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lib.accounts import Account, PasswordHash, write_accounts
from tests.server.fork_server import ForkedServer, fork_server

REPOSITORY = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
# one person of each role, by name
USERS = {"una": "user", "ann": "annotator", "rob": "reviewer", "ada": "admin"}
PASSWORD = "seven geese on a lake"


@dataclass
class RunningServer:
    """A server that answers; `token` is sent with every request, `authority` is the certificate that is believed."""

    url: str
    process: subprocess.Popen[bytes] | ForkedServer
    log: Path
    models: Path
    started_in_s: float = 0.0
    token: str = ""
    authority: Path | None = None

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Return the answer to one request, whatever its status."""
        if self.token:
            arguments["headers"] = {"Authorization": f"Bearer {self.token}", **arguments.get("headers", {})}
        verify = str(self.authority) if self.authority else True
        return requests.request(method, f"{self.url}{path}", timeout=120, verify=verify, **arguments)

    def log_in(self, name: str, password: str = PASSWORD) -> requests.Response:
        """Return the answer to a login."""
        form = {"grant_type": "password", "username": name, "password": password}
        return dataclasses.replace(self, token="").ask("POST", "/auth/token", data=form)

    def logged_in_as(self, name: str, password: str = PASSWORD) -> RunningServer:
        """Return this server as it is asked by somebody who has logged in."""
        answer = self.log_in(name, password)
        assert answer.status_code == 200, answer.text
        return dataclasses.replace(self, token=answer.json()["access_token"])

    def json(self, path: str) -> Any:
        """Return what GET gives; fails on an error."""
        answer = self.ask("GET", path)
        answer.raise_for_status()
        return answer.json()

    def infer(self, model: str, *, params: str = "{}", files: Any = None, **query: str) -> requests.Response:
        """Return the answer to an inference."""
        return self.ask("POST", f"/infer/{model}", params=query, data={"params": params}, files=files)

    def wait_for_training(self, *, timeout_s: float) -> dict[str, Any]:
        """Return the newest training task once it has ended."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            task: dict[str, Any] = self.json("/train/")
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        pytest.fail(f"training still runs after {timeout_s:.0f} s: {self.json('/train/')}")


def write_users(folder: Path, people: dict[str, str] = USERS) -> Path:
    """Write a users file for `running_server(..., users=...)`; a password of `PASSWORD` each, hashed at no cost."""
    salt = b"16 bytes of salt"
    digest = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=16, r=8, p=1, dklen=32)
    accounts = {name: Account(name, role, PasswordHash(16, 8, 1, salt, digest)) for name, role in people.items()}
    write_accounts(folder / "users.json", accounts)
    return folder / "users.json"


def command(app: str | Path, studies: str | Path, port: int, **conf: str | Path) -> list[str]:
    """Return the command line a user types, with the `monailabel` of this environment."""
    program = shutil.which("monailabel", path=str(Path(sys.executable).parent))
    assert program is not None, "monailabel is not installed in this environment"
    settings = [word for key, value in conf.items() for word in ("--conf", key, str(value))]
    where = ["--app", str(app), "--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    return [program, "start_server", *where, *settings]


def environment() -> dict[str, str]:
    """Return the environment in which `python` is this one, as after activating .venv."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def free_port() -> int:
    """Return a port of this computer that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_server(
    app: str | Path,
    studies: str | Path,
    folder: Path,
    *,
    cwd: Path = REPOSITORY,
    tls: tuple[Path, Path] | None = None,
    variables: dict[str, str] | None = None,
    under: Sequence[str] = (),
    memory_limit_bytes: int = 0,
    is_forked: bool = True,
    **conf: str | Path,
) -> Iterator[RunningServer]:
    """Start a server and end it, with every process it started; its models and its log lie in `folder`.

    Args:
        tls: Certificate and private key.
        variables: Further environment.
        under: Words of a program that runs the server's command.
        memory_limit_bytes: Addresses that each of its processes may map; 0 for no limit. Linux only.
        is_forked: Whether it may be forked from a process that has imported MONAI Label. It is not where a variable is
            read while MONAI Label is imported, or another program runs it.
    """
    port, log, models = free_port(), folder / "server.log", folder / "models"
    words = [*command(app, studies, port, models_folder=models, device="cpu", **conf), *_tls_words(tls)]
    env = {**environment(), **(variables or {})}
    is_forked &= not under and not variables and not any(name.startswith("MONAI_LABEL_") for name in env)
    began = time.monotonic()
    process: subprocess.Popen[bytes] | ForkedServer
    if is_forked:
        process = fork_server(words[1:], cwd=cwd, environment=env, log=log)
    else:
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*under, *words], cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
    if memory_limit_bytes and hasattr(resource, "prlimit"):
        resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    server = RunningServer(url, process, log, models, authority=tls[0] if tls else None)
    try:
        _wait_until_it_answers(server)
        server.started_in_s = time.monotonic() - began
        yield server
    finally:
        end(process)


def end(process: subprocess.Popen[bytes] | ForkedServer) -> None:
    """End a process and all of its session."""
    for wish, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, wish)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _tls_words(tls: tuple[Path, Path] | None) -> list[str]:
    return ["--ssl_certfile", str(tls[0]), "--ssl_keyfile", str(tls[1])] if tls else []


def _wait_until_it_answers(server: RunningServer) -> None:
    deadline = time.monotonic() + 2 * START_TIMEOUT_S  # the test says whether it was fast enough
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            answer = server.ask("GET", "/info/")
            if answer.ok or answer.status_code == 401:  # it asks for a token
                return
        time.sleep(0.2)
    pytest.fail(f"the server does not answer; its last words:\n{server.log.read_text()[-3000:]}")
