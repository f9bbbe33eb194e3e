"""Start the real server in a separate process on a phantom or on given studies, for the benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lib.dicom.scan.scan import scan_folder
from lib.errors import InputError
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.benchmarks.network import save_model
from scripts.benchmarks.programs import FIELD_OF_VIEW_MM, ROOT

START_TIMEOUT_S = 300.0
REST_S, MAX_PERCENT_AT_REST = 1.0, 10.0
TIMEOUT_S = 3600.0
MODEL = "unet"  # has one stage
TRAINING_PATIENTS = 10  # at least one on each side of the split


@dataclass(frozen=True)
class Setup:
    """Studies and a model, on which a server can be started repeatedly."""

    studies: Path
    models: Path
    ct_uid: str
    slices: int
    device: str
    is_quick: bool

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """Start the server and yield its URL once it is at rest: it has scanned the studies and loaded the model.

        Raises:
            InputError: The server does not start.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        arguments = ["start_server", "--app", ROOT / "ct2pet_app", "--studies", self.studies]
        arguments += ["--host", "127.0.0.1", "--port", port, "--conf", "models", MODEL]
        arguments += ["--conf", "models_folder", self.models, "--conf", "device", self.device]
        command = [sys.executable, "-m", "monailabel.main", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = _wait_until_ready(f"http://127.0.0.1:{port}", process)
            if not self.is_quick:
                _wait_until_at_rest(process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@contextlib.contextmanager
def prepare_setup(args: argparse.Namespace, *, training: PhantomSettings | None = None) -> Iterator[Setup]:
    """Yield the CT of the command line or a phantom's, with a model; remove temporary files at the end.

    Args:
        args: The command line.
        training: Of further phantoms, `TRAINING_PATIENTS` of them, to train on.

    Raises:
        InputError: There is no usable CT, or one is given although a training needs phantoms.
    """
    if args.ct is not None and training is not None:
        raise InputError("--ct cannot be combined with a training on phantoms: leave it out")
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        studies, models = args.ct or Path(folder, "studies"), Path(folder, "models")
        if args.ct is None:
            settings = PhantomSettings(
                slices=args.slices, ct_matrix=args.matrix, ct_pixel_mm=FIELD_OF_VIEW_MM / args.matrix
            )
            write_phantoms(studies / "ct", patients=1, settings=settings)
        cts = scan_folder(studies).usable("CT")
        if not cts:
            raise InputError(f"{studies}: no usable CT series; python main.py scan lists the reasons")
        if training is not None:
            write_phantoms(studies / "training", patients=TRAINING_PATIENTS, seed=1, settings=training)
        save_model(args, models / MODEL / "model.safetensors")
        yield Setup(studies, models, cts[0].series.uid, cts[0].series.slice_count, args.device, args.quick)


def get(url: str) -> float:
    """Send a GET request and return its duration, s."""
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
        response.read()
    return time.perf_counter() - began


def read_json(url: str, *, body: Mapping[str, Any] | None = None) -> Any:
    """Return the JSON of a GET request, or of a POST request with a JSON body."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=content, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return json.load(response)


def _wait_until_at_rest(process: subprocess.Popen[bytes]) -> None:
    """Wait until a server that has started no longer computes, such as the check of a pair."""
    measured = psutil.Process(process.pid)
    deadline = time.monotonic() + START_TIMEOUT_S
    while measured.cpu_percent(REST_S) > MAX_PERCENT_AT_REST and time.monotonic() < deadline:
        pass


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(f"{url}/info/")
            return url
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise InputError(f"the server does not respond after {START_TIMEOUT_S:.0f} s; run scripts/serve to see why")
