"""Start the real server in a separate process on a phantom or on given studies, for the benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.errors import InputError
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import ModelCard, TrainingData
from lib.learning.recipe import Recipe, load_recipe
from lib.networks.cascade import Cascade

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 300.0
MODEL = "unet"  # has one stage


@dataclass(frozen=True)
class Setup:
    """Studies and a model, on which a server can be started repeatedly."""

    studies: Path
    models: Path
    ct_uid: str
    slices: int
    device: str

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """Start the server and yield its URL once it responds; it has read only headers.

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
            yield _wait_until_ready(f"http://127.0.0.1:{port}", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@contextlib.contextmanager
def prepare_setup(args: argparse.Namespace) -> Iterator[Setup]:
    """Yield a phantom or the first CT of the given studies, with a model; remove temporary files at the end."""
    from lib.dicom.scan.scan import (
        scan_folder,  # imported here: the benchmark of the network needs no DICOM libraries
    )
    from lib.phantom.generate import PhantomSettings, write_phantoms

    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        studies, models = args.studies or Path(folder, "studies"), Path(folder, "models")
        if args.studies is None:
            settings = PhantomSettings(
                slices=args.slices, ct_matrix=args.matrix, ct_pixel_mm=400 / args.matrix, slice_spacing_mm=3.0
            )
            write_phantoms(studies, patients=1, settings=settings)
        cts = scan_folder(studies).usable("CT")
        if not cts:
            raise InputError(f"{studies}: no usable CT series; python main.py scan lists the reasons")
        checkpoint = models / MODEL / "model.safetensors"
        checkpoint.parent.mkdir(parents=True)
        if args.model is None:
            save_untrained(checkpoint, load_recipe(args.recipe, settings=("stages=1", *args.set)))
        else:
            checkpoint.write_bytes(args.model.read_bytes())
        yield Setup(studies, models, cts[0].series.uid, cts[0].series.slice_count, args.device)


def save_untrained(path: Path, recipe: Recipe) -> None:
    """Write a checkpoint of an untrained network, which takes as much computation as a trained one."""
    card = ModelCard(
        name="untrained", created="2026-01-01T00:00:00+00:00", recipe=recipe, network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=0, scores=None, baselines=None, versions={},
    )  # fmt: skip
    save_checkpoint(path, Cascade(recipe.network), card)


def get(url: str) -> float:
    """Send a GET request and return its duration, seconds."""
    return _seconds(urllib.request.Request(url))


def post(url: str) -> float:
    """Send a POST request and return its duration, seconds."""
    return _seconds(urllib.request.Request(url, method="POST"))


def _seconds(request: urllib.request.Request) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as response:
        response.read()
    return time.perf_counter() - began


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
