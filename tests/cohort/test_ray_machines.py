"""The commands of docs/cohort.md for many machines, two of them here, and drivers on one and from elsewhere."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lib.cohort.manifest import Manifest
from tests.cohort.conftest import STUDIES
from tests.cohort.files import files_of, leftovers
from tests.conftest import REPOSITORY

RAY = Path(sys.executable).with_name("ray")
LIMIT_S = 120.0


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait for a condition that a process brings about."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < end, process.args
        time.sleep(0.2)


@contextmanager
def machine(environment: dict[str, str], log: Path, *options: str) -> Iterator[subprocess.Popen[Any]]:
    """Start what `ray start` starts on a machine, with one processor; the end of the context ends all of it."""
    command = [str(RAY), "start", "--num-cpus", "1", "--block", *options]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LIMIT_S)


@dataclass(frozen=True)
class Cluster:
    """Two machines, which require a token.

    Attributes:
        environment: With the token and without RAY_ADDRESS.
        address: For RAY_ADDRESS.
        client_address: For `ray://`.
    """

    environment: dict[str, str]
    address: str
    client_address: str


@pytest.fixture
def cluster(ray_cluster: None, tmp_path: Path) -> Iterator[Cluster]:
    port, client_port = free_ports(2)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    quick = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    environment = {**os.environ, **token, **quick}
    ports = ("--port", str(port), "--ray-client-server-port", str(client_port))
    first = ("--head", *ports, "--include-dashboard", "false")
    with machine(environment, tmp_path / "first.log", *first) as head:
        wait_until(lambda: "runtime started" in (tmp_path / "first.log").read_text(), head)
        with machine(environment, tmp_path / "second.log", "--address", f"127.0.0.1:{port}"):
            yield Cluster(environment, f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}")


def begun(out: Path, *arguments: str | Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start `cohort run`."""
    command = [sys.executable, "main.py", "cohort", "run", *map(str, arguments), "--out", str(out), "--json"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def done(out: Path) -> int:
    """Return the number of studies that are done."""
    if not (out / "cohort.sqlite").exists():
        return 0
    with Manifest.open(out) as manifest:
        return manifest.counts()["done"]


@pytest.mark.slow
def test_a_stopped_driver_finishes_what_was_begun_and_another_goes_on_from_elsewhere(
    cluster: Cluster, studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    environment = {**cluster.environment, "RAY_ADDRESS": cluster.address}
    driver = begun(out, studies, "--model", model, "--engine", "ray", "--workers", "1", environment=environment)
    wait_until(lambda: done(out) > 0, driver)
    driver.send_signal(signal.SIGTERM)
    printed, errors = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 130, errors[-2000:]
    stopped = json.loads(printed)
    assert stopped["is_stopped"] and (stopped["counts"]["running"], stopped["lost"]) == (0, 0)
    assert stopped["counts"]["done"] + stopped["counts"]["pending"] == STUDIES and "SIGTERM received" not in errors
    driver = begun(out, studies, "--model", model, "--engine", cluster.client_address, environment=cluster.environment)
    printed, errors = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, errors[-2000:]
    assert json.loads(printed)["counts"]["done"] == STUDIES
    assert files_of(out) == files_of(local_cohort) and not leftovers(out)
