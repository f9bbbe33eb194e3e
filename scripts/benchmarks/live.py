"""A real server on a phantom, or on studies of one's own, in a process of its own: what the other parts measure."""

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
MODEL = "unet"  # of one stage


@dataclass(frozen=True)
class Clinic:
    """Studies and a model, on which a server may be started again and again."""

    studies: Path
    models: Path
    ct_uid: str
    slices: int
    device: str

    @contextlib.contextmanager
    def server(self) -> Iterator[str]:
        """Start the server and yield its address once it answers; it has read nothing but headers.

        Raises:
            InputError: It does not start.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["start_server", "--app", ROOT / "ct2pet_app", "--studies", self.studies]
        words += ["--host", "127.0.0.1", "--port", port, "--conf", "models", MODEL]
        words += ["--conf", "models_folder", self.models, "--conf", "device", self.device]
        command = [sys.executable, "-m", "monailabel.main", *map(str, words)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _answering(f"http://127.0.0.1:{port}", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@contextlib.contextmanager
def clinic(asked: argparse.Namespace) -> Iterator[Clinic]:
    """Yield a phantom with its model, or the first CT of the studies that were asked for; gone afterwards."""
    from lib.dicom.scan.scan import (
        scan_folder,  # here: the network is measured where DICOM's libraries are not installed
    )
    from lib.phantom.generate import PhantomSettings, write_phantoms

    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        studies, models = asked.studies or Path(folder, "studies"), Path(folder, "models")
        if asked.studies is None:
            settings = PhantomSettings(
                slices=asked.slices, ct_matrix=asked.matrix, ct_pixel_mm=400 / asked.matrix, slice_spacing_mm=3.0
            )
            write_phantoms(studies, patients=1, settings=settings)
        cts = scan_folder(studies).usable("CT")
        if not cts:
            raise InputError(f"{studies} holds no CT series that can be used; python main.py scan tells why")
        checkpoint = models / MODEL / "model.safetensors"
        checkpoint.parent.mkdir(parents=True)
        if asked.model is None:
            save_untrained(checkpoint, load_recipe(asked.recipe, settings=("stages=1", *asked.set)))
        else:
            checkpoint.write_bytes(asked.model.read_bytes())
        yield Clinic(studies, models, cts[0].series.uid, cts[0].series.slice_count, asked.device)


def save_untrained(path: Path, recipe: Recipe) -> None:
    """Write a checkpoint of a network that nobody has trained: as much work as a trained one."""
    card = ModelCard(
        name="untrained", created="2026-01-01T00:00:00+00:00", recipe=recipe, network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=0, scores=None, baselines=None, versions={},
    )  # fmt: skip
    save_checkpoint(path, Cascade(recipe.network), card)


def get(url: str) -> float:
    """Return the seconds that an answer to GET takes."""
    return _seconds(urllib.request.Request(url))


def post(url: str) -> float:
    """Return the seconds that an answer to POST takes."""
    return _seconds(urllib.request.Request(url, method="POST"))


def _seconds(request: urllib.request.Request) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=3600) as answer:
        answer.read()
    return time.perf_counter() - began


def _answering(url: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(f"{url}/info/")
            return url
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise InputError(f"the server does not answer after {START_TIMEOUT_S:.0f} s; start it by scripts/serve to see why")
