"""Train KonfAI's own U-Net on the training patients of our recipe, for equal time, and predict the test patients.

Writes one synthetic PET per test patient, SUVbw on the CT's grid: OUT/konfai/<CT SeriesInstanceUID>.mha. With --model,
the report of `main.py evaluate` compares them with that model's. Finished steps are not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib.dicom.scan.scan import scan_folder  # noqa: E402
from lib.errors import CT2PETError  # noqa: E402
from lib.files import write_text  # noqa: E402
from lib.learning.checkpoint import read_card  # noqa: E402
from lib.learning.model_card.card import patient_digest  # noqa: E402
from lib.learning.recipe import Recipe, load_recipe  # noqa: E402
from lib.pairing.pairs import PairedSeries, pair_series  # noqa: E402
from lib.pairing.prepare import prepare_pairs  # noqa: E402
from lib.pairing.prepared import PreparedSet  # noqa: E402
from scripts.konfai.cases import Case, export_cases, import_prediction  # noqa: E402
from scripts.konfai.program import HERE, Konfai, installed, write_configuration  # noqa: E402

MULTIPLE = 16  # KonfAI's U-Net halves a slice four times
BATCH, COPIES = 8, 2  # of train.yml: slices a step, and every case with one mirrored copy
CHANNELS = [5, 16, 32, 64, 128, 256]  # five slices in; as wide as our networks on 2 mm pixels
PACE_CASES = 3  # enough steps to measure the speed, few enough to take under a minute
PLANNED_SHARE = 0.95  # of the time, for epochs; the rest is for start-up, caching and slower phases
MIN_CPU_SHARE = 0.8  # of one core: with less, wall-clock time is not training time
EPOCH = re.compile(r"\[KonfAI\] epoch ([\d.]+) s = .*? validation ([\d.]+)")


@dataclass(frozen=True)
class Plan:
    """The number of epochs that fit into the time.

    Attributes:
        epochs: At least 1.
        epoch_s: Expected duration of an epoch, validation included, s.
        step_s: Measured duration of a training step, s.
    """

    epochs: int
    epoch_s: float
    step_s: float


def main() -> int:
    """Run the comparison and return the exit code."""
    args = arguments()
    try:
        compare(args)
    except CT2PETError as error:
        raise SystemExit(str(error)) from error
    return 0


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="scripts/compare-konfai", description=__doc__)
    parser.add_argument("studies", type=Path, help="folder of DICOM studies")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall-clock training time of KonfAI (default 60)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: every core)")
    parser.add_argument(
        "--model", type=Path, help="our .safetensors: use its recipe's grid and split, and write a report"
    )
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change the default recipe's grid or split")
    parser.add_argument("--note", default="", help="line below every image, such as the data's attribution")
    environment = Path(os.environ.get("CT2PET_KONFAI") or ROOT / ".venv-konfai")
    parser.add_argument("--environment", type=Path, default=environment, help="of KonfAI (default .venv-konfai)")
    args = parser.parse_args()
    if not args.studies.is_dir():
        parser.error(f"{args.studies}: no such folder")
    if args.model and args.set:
        parser.error("--set changes the default recipe, but --model has its own; give one of them")
    if not args.minutes > 0 or args.threads < 1:
        parser.error(f"--minutes must be above 0 and --threads at least 1, found {args.minutes:g} and {args.threads}")
    return args


def compare(args: argparse.Namespace) -> None:
    """Run every step that is not finished yet."""
    card = read_card(args.model) if args.model else None
    recipe = card.recipe if card else load_recipe(settings=args.set or ())
    out = args.out.resolve()
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    program = installed(args.environment.resolve(), report=say)
    pairs = pair_series(scan_folder(args.studies)).pairs
    say(f"{len(pairs)} CT/PET pairs; arrays and cases in {work}")
    report = prepare_pairs(pairs, work / "prepared", preparation=recipe.preparation)
    for failed in report.failed:
        say(f"excluded: CT {failed.ct_series_instance_uid}: {failed.reason}")
    cases = export_cases(report.prepared, recipe.split, work / "cases")
    say(", ".join(f"{side}: {len(cases_on(cases, side))} cases" for side in ("train", "validation", "test")))
    if card is not None and training_patients(report.prepared, cases) != set(card.training.patients):
        say("Note: the model was trained on other patients than KonfAI; the comparison is not on equal data.")
    konfai = Konfai(program, work, threads=args.threads, report=say)
    values = template_values(report.prepared, recipe)
    checkpoint = train(konfai, work, cases, values, minutes=args.minutes)
    predict(konfai, work, out / "konfai", checkpoint, values, cases=cases, pairs=pairs, recipe=recipe)
    say(f"Synthetic PETs of KonfAI, SUVbw: {out / 'konfai'}")
    if args.model:
        evaluate(args, out)


def cases_on(cases: Sequence[Case], side: str) -> list[Case]:
    """Return the cases on one side of the split."""
    return [case for case in cases if case.side == side]


def training_patients(prepared: PreparedSet, cases: Sequence[Case]) -> set[str]:
    """Return the digests of KonfAI's training patients, as in a model card."""
    pairs = zip(prepared.pairs, cases, strict=True)
    return {patient_digest(pair.patient_id) for pair, case in pairs if case.side == "train"}


def template_values(prepared: PreparedSet, recipe: Recipe) -> dict[str, object]:
    """Return the values of the YAML templates that depend on the data; one patch holds any full slice."""
    rows, columns = (max(pair.shape[axis] for pair in prepared.pairs) for axis in (1, 2))
    low, high = recipe.windows.ct_low_hu, recipe.windows.ct_high_hu
    return {
        "channels": CHANNELS,
        "rows": math.ceil(rows / MULTIPLE) * MULTIPLE,
        "columns": math.ceil(columns / MULTIPLE) * MULTIPLE,
        "ct_low_hu": low,
        "ct_high_hu": high,
        "ct_span_hu": high - low,
    }


def train(konfai: Konfai, work: Path, cases: Sequence[Case], values: dict[str, object], *, minutes: float) -> Path:
    """Return KonfAI's best checkpoint on the validation patients after this training time."""
    done, key = work / "trained.json", fingerprint(work, values, minutes)
    if (checkpoint := finished(done, key)) is not None:
        say(f"Trained already: {checkpoint}")
        return checkpoint
    say("Measuring KonfAI's speed on a few cases (not counted)")
    pace = measure_pace(konfai, work, cases, values)
    plan = plan_epochs(pace, cases, minutes)
    say(
        f"One step of {BATCH} slices takes {plan.step_s:.2f} s; {plan.epochs} epochs of {plan.epoch_s / 60:.1f} minutes"
    )
    path = write_configuration(
        "train.yml",
        work / "train.yml",
        name="CT2PET",
        epochs=plan.epochs,
        subset="None",
        validation="cases/validation.txt",
        **values,
    )
    say(f"Training KonfAI for at most {minutes:g} minutes (log: {work / 'train.log'})")
    started, cpu_before = time.monotonic(), child_cpu_s()
    konfai.run("TRAIN", "-y", "--config", path.name, log="train.log", seconds=minutes * 60)
    elapsed_s, cpu_s = time.monotonic() - started, child_cpu_s() - cpu_before
    checkpoint = best_checkpoint(work / "Checkpoints" / "CT2PET", minutes)
    shutil.rmtree(work.parent / "konfai", ignore_errors=True)  # of an earlier training
    shutil.rmtree(work / "Predictions", ignore_errors=True)
    record = {"request": key, "checkpoint": str(checkpoint.relative_to(work)), "planned_epochs": plan.epochs}
    measured = {"step_s": plan.step_s, "minutes": elapsed_s / 60, "processor_minutes": cpu_s / 60}
    write_text(done, json.dumps({**record, **{name: round(value, 3) for name, value in measured.items()}}, indent=1))
    say(f"Trained for {elapsed_s / 60:.1f} minutes, with {cpu_s / 60:.1f} minutes of CPU time")
    if cpu_s < MIN_CPU_SHARE * elapsed_s:
        say("Note: other processes used much of the CPU, so KonfAI trained for less; train again on an idle machine")
    return checkpoint


def child_cpu_s() -> float:
    """Return the CPU time of all finished child processes, s."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def fingerprint(work: Path, values: dict[str, object], minutes: float) -> str:
    """Return a hash of everything that determines the training."""
    parts = [(HERE / "train.yml").read_text(), (work / "cases" / "cases.json").read_text(), repr((values, minutes))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def finished(done: Path, key: str) -> Path | None:
    """Return the checkpoint of a finished training with the same fingerprint, or None."""
    try:
        record = json.loads(done.read_text())
    except (OSError, ValueError):
        return None
    checkpoint = done.parent / str(record.get("checkpoint"))
    return checkpoint if record.get("request") == key and checkpoint.is_file() else None


def measure_pace(konfai: Konfai, work: Path, cases: Sequence[Case], values: dict[str, object]) -> tuple[float, float]:
    """Return the seconds per slice in training and in validation, measured over one epoch of a few cases."""
    training, validation = cases_on(cases, "train")[:PACE_CASES], cases_on(cases, "validation")[0]
    path = write_configuration(
        "train.yml",
        work / "pace.yml",
        name="PACE",
        epochs=1,
        subset=[case.name for case in (*training, validation)],
        validation=[validation.name],
        **values,
    )
    output = konfai.run("TRAIN", "-y", "--config", path.name, log="pace.log")
    found = EPOCH.search(output)
    if found is None:
        raise SystemExit(f"KonfAI did not report the duration of its epoch; check its version and {work / 'pace.log'}")
    epoch_s, validation_s = float(found[1]), float(found[2])
    slices = COPIES * sum(case.slices for case in training)
    return (epoch_s - validation_s) / slices, validation_s / validation.slices


def plan_epochs(pace: tuple[float, float], cases: Sequence[Case], minutes: float) -> Plan:
    """Return how many epochs fit, at the measured seconds per slice in training and in validation."""
    training, validation = (sum(case.slices for case in cases_on(cases, side)) for side in ("train", "validation"))
    epoch_s = COPIES * training * pace[0] + validation * pace[1]
    epochs = int(PLANNED_SHARE * minutes * 60 / epoch_s)
    if epochs < 1:
        raise SystemExit(
            f"one epoch of KonfAI takes about {epoch_s / 60:.1f} minutes here, so none would finish within --minutes "
            f"{minutes:g}; give more minutes or --threads"
        )
    return Plan(epochs, epoch_s, BATCH * pace[0])


def best_checkpoint(folder: Path, minutes: float) -> Path:
    """Return the checkpoint that KonfAI kept as its best; `crash_` and `resume_` files are written on interruption."""
    kept = [path for path in folder.glob("*.pt") if not path.name.startswith(("crash_", "resume_"))]
    if not kept:
        raise SystemExit(f"{folder}: no epoch finished within {minutes:g} minutes; give more minutes")
    return max(kept, key=lambda path: path.stat().st_mtime)


def predict(
    konfai: Konfai,
    work: Path,
    out: Path,
    checkpoint: Path,
    values: dict[str, object],
    *,
    cases: Sequence[Case],
    pairs: Sequence[PairedSeries],
    recipe: Recipe,
) -> None:
    """Write the missing synthetic PETs of the test patients."""
    missing = [case for case in cases_on(cases, "test") if not (out / f"{case.ct_series_instance_uid}.mha").is_file()]
    if not missing:
        say("Predicted already")
        return
    say(f"Predicting {len(missing)} test patients with {checkpoint.name}")
    path = write_configuration("predict.yml", work / "predict.yml", name="CT2PET", subset="None", **values)
    konfai.run(
        "PREDICTION", "-y", "--config", path.name, "--models", str(checkpoint.relative_to(work)), log="predict.log"
    )
    ct_of = {paired.pair.ct.uid: paired.pair.ct for paired in pairs}
    predictions = work / "Predictions" / "CT2PET" / "Dataset"
    for case in missing:
        import_prediction(
            predictions / case.name / "PET.mha", ct_of[case.ct_series_instance_uid], out, windows=recipe.windows
        )


def evaluate(args: argparse.Namespace, out: Path) -> None:
    """Write the report that compares our model with KonfAI."""
    command = [sys.executable, ROOT / "main.py", "evaluate", args.studies, "--model", args.model]
    command += ["--out", out / "report", "--compare", f"KonfAI={out / 'konfai'}", "--note", args.note]
    completed = subprocess.run([str(part) for part in command], check=False)
    if completed.returncode:
        raise SystemExit(completed.returncode)


def say(message: str) -> None:
    """Print a message."""
    print(message, flush=True)


if __name__ == "__main__":
    sys.exit(main())
