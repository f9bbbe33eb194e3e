"""Demonstrate the full workflow of a clinic on phantoms or on given studies, with the real server.

The demonstration is a client of the server, over HTTP on this machine only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.dicom.read.volume import read_ct, read_pet  # noqa: E402
from lib.dicom.scan.scan import scan_folder  # noqa: E402
from lib.evaluation.report.images import LABEL, draw_comparison  # noqa: E402
from lib.evaluation.slice_metrics import align  # noqa: E402
from lib.imaging.files.volume_file import read_volume_file  # noqa: E402
from lib.imaging.volume import Unit  # noqa: E402
from lib.learning.checkpoint import read_card  # noqa: E402
from lib.pairing.pairs import PairedSeries, pair_series  # noqa: E402
from lib.phantom.generate import write_phantoms  # noqa: E402

PHANTOMS = 12  # the split has 7 for training, 1 for validation and 4 for testing
# Coarse pixels and a narrow network for a few minutes on two cores; the default recipe is finer.
SMALL = "pixel_mm=4.0;base_channels=16;depth=3;context_slices=3;epochs=40;patience=0"
START_TIMEOUT_S = 120.0
METRICS = {
    "mae_suv_body": "body MAE [SUV]",
    "psnr_db_body": "body PSNR [dB]",
    "correlation_body": "body correlation",
    "ssim_body": "body SSIM",
}


@dataclass(frozen=True)
class Server:
    """A running ct2pet server."""

    url: str
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request and return its response.

        Raises:
            SystemExit: The server returned an error; the message contains it.
        """
        response = requests.request(method, f"{self.url}{path}", timeout=600, **arguments)
        if not response.ok:
            raise SystemExit(f"{method} {path}: {response.status_code}: {response.text}")
        return response


def main() -> int:
    """Run the demonstration and return the exit code."""
    args = arguments()
    out = new_folder(args.out)
    echo(f"All files of this demonstration are in {out}")
    studies = args.studies or out / "studies"
    if args.studies is None:
        echo(f"Writing {PHANTOMS} phantom patients (CT and PET as DICOM)")
        write_phantoms(studies, patients=PHANTOMS)
    pairs = pair_series(scan_folder(studies)).pairs
    echo(f"{len(pairs)} CT/PET pairs in {studies}")
    with server(studies, out, args.model) as running:
        echo(f"MONAI Label is running at {running.url}")
        train(running, args.model, args.minutes)
        held_out = held_out_pair(pairs, out / "models" / args.model)
        metadata = synthesize(running, args.model, held_out, out)
    picture = draw_picture(held_out, out, args.model)
    print_metrics(metadata, held_out)
    echo(f"Synthetic PET: {out / 'synthetic-pet.nrrd'}\nPicture:       {picture}\n{LABEL}")
    return 0


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--studies", type=Path, help="folder of DICOM studies (default: generated phantoms)")
    parser.add_argument("--out", type=Path, default=Path("ct2pet-demo"), help="output folder (default ct2pet-demo)")
    parser.add_argument("--model", default="cascade3", help="unet, cascade2, ... cascade6 (default cascade3)")
    parser.add_argument("--minutes", type=float, default=4.0, help="how long to train (default 4)")
    args = parser.parse_args()
    if args.studies is not None and not args.studies.is_dir():
        parser.error(f"--studies {args.studies}: no such folder")
    return args


def new_folder(requested: Path) -> Path:
    """Create and return a new folder, with a number appended to its name if it exists."""
    number, folder = 1, requested.resolve()
    while folder.exists():
        number += 1
        folder = requested.resolve().with_name(f"{requested.name}-{number}")
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def server(studies: Path, out: Path, model: str) -> Iterator[Server]:
    """Start the server on a free loopback port, as scripts/serve does; yield it, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", ROOT / "ct2pet_app"]
    command += ["--studies", studies, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--conf", "models", model, "--conf", "set", SMALL, "--conf", "models_folder", out / "models"]
    log = out / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen([str(part) for part in command], stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    running = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until_ready(running, log)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_ready(running: Server, log: Path) -> None:
    """Wait until /info/ responds.

    Raises:
        SystemExit: The server ended or did not respond; the message contains the end of its log.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{running.url}/info/", timeout=30).ok:
                return
        time.sleep(0.5)
    raise SystemExit(f"the server did not start; the end of its log:\n{log.read_text()[-2000:]}")


def train(running: Server, model: str, minutes: float) -> None:
    """Start training over REST and print its progress until it has ended."""
    echo(f"Training {model} for {minutes:g} minutes (POST /train/{model})")
    # serve the model even if a few minutes of training do not beat the baselines
    # without folds, so that a patient remains whom no network was trained on
    settings = {"set": f"max_minutes={minutes:g}", "publish": "always", "folds": 0}
    running.request("POST", f"/train/{model}", json=settings)
    shown = -1
    while True:
        time.sleep(1)
        task = running.request("GET", "/train/").json()
        stats = running.request("GET", "/info/").json()["train_stats"].get(model, {})
        epoch = stats.get("epoch", 0)
        if epoch != shown and epoch:
            shown = epoch
            validation, loss = stats["eval"]["metrics"], stats["train"]["metrics"]["loss"]
            # without validation patients, only the training loss is known
            score = f"best skill {stats['best_metric']:.3f}" if validation else f"loss {loss:.4f}"
            echo(f"  epoch {epoch} of {stats['total_epochs']}, {score}, time left {stats['time_left']}")
        if task.get("status") not in ("SUBMITTED", "PENDING", "RUNNING"):
            break
    if task.get("status") != "DONE":
        raise SystemExit(f"training ended with status {task.get('status')}:\n" + "\n".join(task.get("details", [])))


def held_out_pair(pairs: tuple[PairedSeries, ...], model_folder: Path) -> PairedSeries:
    """Return the first pair of a patient who was not used for training.

    Raises:
        SystemExit: No patient is held out.
    """
    newest = max((model_folder / "runs").iterdir())
    test = set(json.loads((newest / "split.json").read_text())["patients"]["test"])
    for paired in pairs:
        if paired.pair.ct.patient_id in test:
            return paired
    raise SystemExit("no patient is held out of training: the split needs more patients (about ten or more)")


def synthesize(running: Server, model: str, held_out: PairedSeries, out: Path) -> dict[str, Any]:
    """Request the synthetic PET of a CT, write it to `out`, and return its metadata."""
    ct_uid = held_out.pair.ct.uid
    echo(f"Requesting the synthetic PET of {held_out.pair.ct.patient_id}, not used for training (POST /infer/{model})")
    query = f"/infer/{model}?image={ct_uid}"
    metadata: dict[str, Any] = running.request("POST", query, data={"params": "{}"}, params={"output": "json"}).json()
    image = running.request("POST", query, data={"params": '{"metrics": false}'}, params={"output": "image"})
    (out / "synthetic-pet.nrrd").write_bytes(image.content)
    (out / "answer.json").write_text(json.dumps(metadata, indent=1))
    return dict(metadata.get("params", metadata))


def draw_picture(held_out: PairedSeries, out: Path, model: str) -> Path:
    """Draw CT, synthetic PET, real PET, fused images and error; return the path of the picture."""
    synthetic = read_volume_file(out / "synthetic-pet.nrrd", unit=Unit.SUV_BW)
    ct, pet = read_ct(held_out.pair.ct), read_pet(held_out.pair.pet)
    card = read_card(out / "models" / model / "model.safetensors")
    volumes = align(synthetic, ct=ct, pet=pet, grid=card.recipe.grid)
    return draw_comparison(volumes, out / "picture.png", title=f"{held_out.pair.ct.patient_id}, {model}")


def print_metrics(metadata: dict[str, Any], held_out: PairedSeries) -> None:
    """Print the metrics of the model and of the baselines."""
    metrics = metadata["metrics"]
    echo(f"\n{held_out.pair.ct.patient_id} (not used for training)")
    echo(f"{'':12s}" + "".join(f"{label:>18s}" for label in METRICS.values()))
    for method in ("model", *(name for name in metrics if name != "model")):
        values = (metrics[method][name] for name in METRICS)
        echo(f"{method:12s}" + "".join(f"{'-' if value is None else format(value, '.3f'):>18s}" for value in values))


def echo(message: str) -> None:
    """Print a message immediately."""
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
