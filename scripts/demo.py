"""The demonstration: everything a clinic would do, on phantoms or on its own studies, through the real server.

It speaks to the server as any client does, over HTTP on this machine only.
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

PHANTOMS = 12  # of these the stable split trains on 7, chooses the weights on 1 and holds 4 out
# Small enough for two cores and a few minutes: coarse pixels and a narrow network. The clinic's default is finer.
SMALL = "pixel_mm=4.0;base_channels=16;depth=3;context_slices=3;epochs=40;patience=0"
START_TIMEOUT_S = 120.0
FIGURES = {
    "mae_suv_body": "body MAE [SUV]",
    "psnr_db_body": "body PSNR [dB]",
    "correlation_body": "body correlation",
    "ssim_body": "body SSIM",
}


@dataclass(frozen=True)
class Server:
    """A running server of ours."""

    url: str
    process: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Return the answer; the server's own sentence when it refuses."""
        answer = requests.request(method, f"{self.url}{path}", timeout=600, **arguments)
        if not answer.ok:
            raise SystemExit(f"{method} {path}: {answer.status_code}: {answer.text}")
        return answer


def main() -> int:
    """Run the demonstration and return the exit code."""
    wanted = arguments()
    out = new_folder(wanted.out)
    say(f"Everything of this demonstration lies in {out}")
    studies = wanted.studies or out / "studies"
    if wanted.studies is None:
        say(f"Writing {PHANTOMS} phantom patients (CT and PET as DICOM)")
        write_phantoms(studies, patients=PHANTOMS)
    pairs = pair_series(scan_folder(studies)).pairs
    say(f"{len(pairs)} CT/PET pairs in {studies}")
    with server(studies, out, wanted.model) as running:
        say(f"MONAI Label answers at {running.url}")
        train(running, wanted.model, wanted.minutes)
        held_out = held_out_pair(pairs, out / "models" / wanted.model)
        answer = synthesize(running, wanted.model, held_out, out)
    picture = draw(held_out, out, wanted.model)
    print_figures(answer, held_out)
    say(f"Synthetic PET: {out / 'synthetic-pet.nrrd'}\nPicture:       {picture}\n{LABEL}")
    return 0


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--studies", type=Path, help="folder of DICOM studies; phantoms are made when not given")
    parser.add_argument("--out", type=Path, default=Path("ct2pet-demo"), help="folder to leave everything in")
    parser.add_argument("--model", default="cascade3", help="unet, cascade2, ... cascade6 (default cascade3)")
    parser.add_argument("--minutes", type=float, default=4.0, help="how long to train (default 4)")
    wanted = parser.parse_args()
    if wanted.studies is not None and not wanted.studies.is_dir():
        parser.error(f"--studies {wanted.studies}: no such folder")
    return wanted


def new_folder(wanted: Path) -> Path:
    """Return a folder that did not exist before: the wanted one, or that with a number."""
    number, folder = 1, wanted.resolve()
    while folder.exists():
        number += 1
        folder = wanted.resolve().with_name(f"{wanted.name}-{number}")
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def server(studies: Path, out: Path, model: str) -> Iterator[Server]:
    """Start scripts/serve on a free loopback port, and end it whatever happens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [ROOT / "scripts" / "serve", studies, "--port", str(port)]
    command += ["--conf", "models", model, "--conf", "set", SMALL, "--conf", "models_folder", out / "models"]
    log = out / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen([str(part) for part in command], stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    running = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until_it_answers(running, log)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until_it_answers(running: Server, log: Path) -> None:
    """Return once /info/ answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            break
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{running.url}/info/", timeout=30).ok:
                return
        time.sleep(0.5)
    raise SystemExit(f"the server did not start; its last words:\n{log.read_text()[-2000:]}")


def train(running: Server, model: str, minutes: float) -> None:
    """Trigger training over REST and show how it goes on until it has ended."""
    say(f"Training {model} for {minutes:g} minutes (POST /train/{model})")
    # a few minutes may not beat the trivial predictors; it is drawn with all the same, and its figures say so
    running.ask("POST", f"/train/{model}", json={"set": f"max_minutes={minutes:g}", "publish": "always"})
    shown = -1
    while True:
        time.sleep(1)
        task = running.ask("GET", "/train/").json()
        stats = running.ask("GET", "/info/").json()["train_stats"].get(model, {})
        epoch = stats.get("epoch", 0)
        if epoch != shown and epoch:
            shown = epoch
            judged, loss = stats["eval"]["metrics"], stats["train"]["metrics"]["loss"]
            how = f"best skill {stats['best_metric']:.3f}" if judged else f"loss {loss:.4f}"  # nobody may validate
            say(f"  epoch {epoch} of {stats['total_epochs']}, {how}, time left {stats['time_left']}")
        if task.get("status") not in ("SUBMITTED", "PENDING", "RUNNING"):
            break
    if task.get("status") != "DONE":
        raise SystemExit(f"training ended as {task.get('status')}:\n" + "\n".join(task.get("details", [])))


def held_out_pair(pairs: tuple[PairedSeries, ...], model_folder: Path) -> PairedSeries:
    """Return the first pair of a patient that training has not seen."""
    newest = max((model_folder / "runs").iterdir())
    test = set(json.loads((newest / "split.json").read_text())["patients"]["test"])
    for paired in pairs:
        if paired.pair.ct.patient_id in test:
            return paired
    raise SystemExit("no patient is held out of training: the split needs more patients (about ten or more)")


def synthesize(running: Server, model: str, held_out: PairedSeries, out: Path) -> dict[str, Any]:
    """Ask for the synthetic PET of a CT, write it to `out`, and return what the server tells about it."""
    ct_uid = held_out.pair.ct.uid
    say(f"Asking for the synthetic PET of {held_out.pair.ct.patient_id}, never seen in training (POST /infer/{model})")
    query = f"/infer/{model}?image={ct_uid}"
    told: dict[str, Any] = running.ask("POST", query, data={"params": "{}"}, params={"output": "json"}).json()
    image = running.ask("POST", query, data={"params": '{"metrics": false}'}, params={"output": "image"})
    (out / "synthetic-pet.nrrd").write_bytes(image.content)
    (out / "answer.json").write_text(json.dumps(told, indent=1))
    return dict(told.get("params", told))


def draw(held_out: PairedSeries, out: Path, model: str) -> Path:
    """Return the picture: CT, synthetic PET, real PET, fused, error."""
    synthetic = read_volume_file(out / "synthetic-pet.nrrd", unit=Unit.SUV_BW)
    ct, pet = read_ct(held_out.pair.ct), read_pet(held_out.pair.pet)
    card = read_card(out / "models" / model / "model.safetensors")
    volumes = align(synthetic, ct=ct, pet=pet, grid=card.recipe.grid)
    return draw_comparison(volumes, out / "picture.png", title=f"{held_out.pair.ct.patient_id}, {model}")


def print_figures(answer: dict[str, Any], held_out: PairedSeries) -> None:
    """Print the model's figures beside the trivial predictors'."""
    figures = answer["metrics"]
    say(f"\n{held_out.pair.ct.patient_id} (never seen in training)")
    say(f"{'':12s}" + "".join(f"{words:>18s}" for words in FIGURES.values()))
    for method in ("model", *(name for name in figures if name != "model")):
        values = (figures[method][name] for name in FIGURES)
        say(f"{method:12s}" + "".join(f"{'-' if value is None else format(value, '.3f'):>18s}" for value in values))


def say(words: str) -> None:
    """Tell the person in front of the screen."""
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
