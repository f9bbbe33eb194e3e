"""How fast is it on this machine? See `scripts/benchmark --help`. Nothing here is a test: a machine may be busy."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from lib.errors import CT2PETError, InputError  # noqa: E402
from lib.learning.card import ModelCard, TrainingData  # noqa: E402
from lib.learning.checkpoint import save_checkpoint  # noqa: E402
from lib.learning.recipe import DEFAULT_RECIPE, Recipe, load_recipe  # noqa: E402
from lib.networks.cascade import Cascade  # noqa: E402
from lib.networks.precision import autocast, choose_device  # noqa: E402

TARGET_S = 0.5  # within which /info/ answers while a synthesis runs
ASKED = ("/info/", "/datastore/")  # what clients ask again and again
START_WITHIN_S = 300.0


def main() -> int:
    """Do what the command line says; return the exit status."""
    asked = _arguments()
    try:
        found = measure_server(asked) if asked.part == "server" else measure_synthesis(asked)
    except CT2PETError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    text = json.dumps({"part": asked.part, "machine": machine(), **found}, indent=2)
    if asked.out is not None:
        asked.out.write_text(f"{text}\n")
    print(text)
    return 0


def machine() -> dict[str, Any]:
    """Return what figures depend on."""
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "cuda": cuda,
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "load_1_min_before": round(os.getloadavg()[0], 1),
    }


# -- the network -------------------------------------------------------------------------------------------------------


def measure_synthesis(asked: argparse.Namespace) -> dict[str, Any]:
    """Return seconds a slice and TFLOP/s of the recipe's network, untrained, for each batch size and precision."""
    recipe = _recipe(asked)
    device = choose_device(asked.device)
    cascade = Cascade(recipe.network).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows, columns = asked.pixels, asked.pixels
    runs = []
    for precision in asked.precision.split(","):
        for batch in map(int, asked.batch.split(",")):
            shape = (batch, recipe.network.context_slices, rows, columns)
            ct = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(device, precision):
                with FlopCounterMode(display=False) as counter:
                    cascade(ct)
                seconds = _seconds(lambda ct=ct: cascade(ct), device, repeats=asked.repeats)
            per_slice = seconds / batch
            tflops = counter.get_total_flops() / seconds / 1e12
            runs.append({"precision": precision, "batch": batch, "s_per_slice": per_slice, "tflop_per_s": tflops})
    network = {"recipe": recipe.name, "stages": recipe.network.stages, "base_channels": recipe.network.base_channels}
    return {**network, "device": str(device), "shape": [rows, columns], "runs": runs}


def _seconds(work: Any, device: torch.device, *, repeats: int) -> float:
    """Return the seconds of one call: the median of some, after one that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        _finish(device)
        began = time.perf_counter()
        work()
        _finish(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# -- the server --------------------------------------------------------------------------------------------------------


def measure_server(asked: argparse.Namespace) -> dict[str, Any]:
    """Return how long the real server takes to answer while it draws a phantom's slices."""
    from lib.dicom.scan import scan_folder  # here: the network is measured where DICOM's libraries are not installed
    from lib.sources.phantom import PhantomSettings, write_phantoms

    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as folder:
        studies, models = Path(folder, "studies"), Path(folder, "models")
        settings = PhantomSettings(
            slices=asked.slices, ct_matrix=asked.matrix, ct_pixel_mm=400 / asked.matrix, slice_spacing_mm=3.0
        )
        write_phantoms(studies, patients=1, settings=settings)
        ct = scan_folder(studies).usable("CT")[0].series.uid
        checkpoint = models / "unet" / "model.safetensors"
        checkpoint.parent.mkdir(parents=True)
        if asked.model is None:
            save_untrained(checkpoint, _recipe(asked))
        else:
            checkpoint.write_bytes(asked.model.read_bytes())
        url, process = _started(studies, models, asked.device)
        try:
            return {"slices": asked.slices, "matrix": asked.matrix, **_asked_meanwhile(url, ct, asked.requests)}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def save_untrained(path: Path, recipe: Recipe) -> None:
    """Write a checkpoint of a network that nobody has trained: as much work as a trained one."""
    card = ModelCard(
        name="untrained", created="2026-01-01T00:00:00+00:00", recipe=recipe, network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=0, scores=None, baselines=None, versions={},
    )  # fmt: skip
    save_checkpoint(path, Cascade(recipe.network), card)


def _started(studies: Path, models: Path, device: str) -> tuple[str, subprocess.Popen[bytes]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["start_server", "--app", ROOT / "ct2pet_app", "--studies", studies, "--host", "127.0.0.1", "--port", port]
    conf = ["--conf", "models", "unet", "--conf", "models_folder", models, "--conf", "device", device]
    command = [sys.executable, "-m", "monailabel.main", *map(str, [*words, *conf])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _get(f"{url}/info/")
            return url, process
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise InputError(f"the server does not answer after {START_WITHIN_S:.0f} s; start it by scripts/serve to see why")


def _asked_meanwhile(url: str, ct: str, count: int) -> dict[str, Any]:
    """Ask `count` times or more, for as long as a synthesis takes."""
    taken: dict[str, list[float]] = {path: [] for path in ASKED}
    drawn: list[float] = []
    synthesis = threading.Thread(target=lambda: drawn.append(_post(f"{url}/infer/unet?image={ct}&output=json")))
    synthesis.start()
    while synthesis.is_alive():
        for path in ASKED:
            taken[path].append(_get(f"{url}{path}"))
        time.sleep(0.05)
    if len(taken[ASKED[0]]) < count:
        print(f"benchmark: the synthesis was over after {len(taken[ASKED[0]])} requests", file=sys.stderr)
    told = {
        path: {"requests": len(s), "slowest_s": max(s), "median_s": statistics.median(s)} for path, s in taken.items()
    }
    slowest = max(max(seconds) for seconds in taken.values())
    return {"synthesis_s": drawn[0], "answers": told, "target_s": TARGET_S, "reached": slowest < TARGET_S}


def _get(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=120) as answer:
        answer.read()
    return time.perf_counter() - began


def _post(url: str) -> float:
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=3600) as answer:
        answer.read()
    return time.perf_counter() - began


# -- the command line --------------------------------------------------------------------------------------------------


def _recipe(asked: argparse.Namespace) -> Recipe:
    return load_recipe(asked.recipe, settings=("stages=1", *asked.set))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    server = parts.add_parser("server", help="does the server answer within 0.5 s while it draws 300 slices?")
    synthesis = parts.add_parser("synthesis", help="seconds a slice and TFLOP/s of the network")
    for part in (server, synthesis):
        part.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default auto)")
        part.add_argument(
            "--recipe", default=DEFAULT_RECIPE, help=f"of the untrained network (default {DEFAULT_RECIPE})"
        )
        part.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of the recipe")
        part.add_argument("--out", type=Path, help="write the figures as JSON here, too")
    server.add_argument("--model", type=Path, help="a checkpoint of one stage (default: an untrained network)")
    server.add_argument("--slices", type=int, default=300)
    server.add_argument("--matrix", type=int, default=512, help="rows and columns of the CT (default 512)")
    server.add_argument("--requests", type=int, default=100, help="at least so many are wanted (default 100)")
    synthesis.add_argument("--batch", default="1,4,16", help="slices at once (default 1,4,16)")
    synthesis.add_argument("--precision", default="float32,auto", help="of float32, bfloat16, auto")
    synthesis.add_argument("--pixels", type=int, default=256, help="of the network's grid (default 256)")
    synthesis.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
