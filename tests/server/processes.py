"""Start and stop the real MONAI Label server with the ct2pet app in a separate process."""

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
# one user of each role: name and role
USERS = {"una": "user", "ann": "annotator", "rob": "reviewer", "ada": "admin"}
PASSWORD = "seven geese on a lake"


@dataclass
class RunningServer:
    """A running server; `token` is sent with every request, `authority` is the trusted certificate."""

    url: str
    process: subprocess.Popen[bytes] | ForkedServer
    log: Path
    models: Path
    started_in_s: float = 0.0
    token: str = ""
    authority: Path | None = None

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request and return its response, whatever the status."""
        if self.token:
            arguments["headers"] = {"Authorization": f"Bearer {self.token}", **arguments.get("headers", {})}
        verify = str(self.authority) if self.authority else True
        return requests.request(method, f"{self.url}{path}", timeout=120, verify=verify, **arguments)

    def log_in(self, name: str, password: str = PASSWORD) -> requests.Response:
        """Return the response to a login."""
        form = {"grant_type": "password", "username": name, "password": password}
        return dataclasses.replace(self, token="").request("POST", "/auth/token", data=form)

    def logged_in_as(self, name: str, password: str = PASSWORD) -> RunningServer:
        """Return this server with the token of a user who has logged in."""
        response = self.log_in(name, password)
        assert response.status_code == 200, response.text
        return dataclasses.replace(self, token=response.json()["access_token"])

    def json(self, path: str) -> Any:
        """Return the JSON of a GET request; raise `requests.HTTPError` for an error status."""
        response = self.request("GET", path)
        response.raise_for_status()
        return response.json()

    def infer(self, model: str, *, params: str = "{}", files: Any = None, **query: str) -> requests.Response:
        """Return the response to an inference request."""
        return self.request("POST", f"/infer/{model}", params=query, data={"params": params}, files=files)

    def wait_for_training(self, *, timeout_s: float) -> dict[str, Any]:
        """Wait until the newest training task has ended and return it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            task: dict[str, Any] = self.json("/train/")
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        pytest.fail(f"training is still running after {timeout_s:.0f} s: {self.json('/train/')}")


def write_users(folder: Path, roles: dict[str, str] = USERS) -> Path:
    """Write a users file for `running_server(..., users=...)`; every password is `PASSWORD`, with a cheap hash."""
    salt = b"16 bytes of salt"
    digest = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=16, r=8, p=1, dklen=32)
    accounts = {name: Account(name, role, PasswordHash(16, 8, 1, salt, digest)) for name, role in roles.items()}
    write_accounts(folder / "users.json", accounts)
    return folder / "users.json"


def command(app: str | Path, studies: str | Path, port: int, **conf: str | Path) -> list[str]:
    """Return the command line that a user types, with the `monailabel` of this environment."""
    program = shutil.which("monailabel", path=str(Path(sys.executable).parent))
    assert program is not None, "monailabel is not installed in this environment"
    settings = [part for key, value in conf.items() for part in ("--conf", key, str(value))]
    options = ["--app", str(app), "--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
    return [program, "start_server", *options, *settings]


def environment() -> dict[str, str]:
    """Return environment variables with this Python first in PATH, as after activating .venv."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
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
    command_prefix: Sequence[str] = (),
    memory_limit_bytes: int = 0,
    is_forked: bool = True,
    **conf: str | Path,
) -> Iterator[RunningServer]:
    """Start a server, yield it, and stop it with all its child processes; `folder` gets its models and its log.

    Args:
        tls: Paths of the certificate and of the private key.
        variables: Additional environment variables.
        command_prefix: A program and its arguments that run the server's command, such as strace.
        memory_limit_bytes: Virtual address space of each of its processes, bytes; 0 for no limit. Linux only.
        is_forked: Whether the server may be forked from a process that has already imported MONAI Label. Ignored with
            `command_prefix`, and with variables that MONAI Label reads at import.
    """
    port, log, models = free_port(), folder / "server.log", folder / "models"
    arguments = [*command(app, studies, port, models_folder=models, device="cpu", **conf), *_tls_arguments(tls)]
    env = {**environment(), **(variables or {})}
    is_forked &= not command_prefix and not variables and not any(name.startswith("MONAI_LABEL_") for name in env)
    began = time.monotonic()
    process: subprocess.Popen[bytes] | ForkedServer
    if is_forked:
        process = fork_server(arguments[1:], cwd=cwd, environment=env, log=log)
    else:
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command_prefix, *arguments],
                cwd=cwd,
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    if memory_limit_bytes and hasattr(resource, "prlimit"):
        resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    server = RunningServer(url, process, log, models, authority=tls[0] if tls else None)
    try:
        _wait_until_ready(server)
        server.started_in_s = time.monotonic() - began
        yield server
    finally:
        stop_process(process)


def stop_process(process: subprocess.Popen[bytes] | ForkedServer) -> None:
    """Terminate a process and its session; kill what is still running after 10 s."""
    for signal_number, timeout_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=timeout_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _tls_arguments(tls: tuple[Path, Path] | None) -> list[str]:
    return ["--ssl_certfile", str(tls[0]), "--ssl_keyfile", str(tls[1])] if tls else []


def _wait_until_ready(server: RunningServer) -> None:
    deadline = time.monotonic() + 2 * START_TIMEOUT_S  # the tests check whether the start was fast enough
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            response = server.request("GET", "/info/")
            if response.ok or response.status_code == 401:  # it requires a token
                return
        time.sleep(0.2)
    pytest.fail(f"the server does not respond; the end of its log:\n{server.log.read_text()[-3000:]}")
