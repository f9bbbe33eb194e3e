"""Train KonfAI's own U-Net on the patients our recipe trains on, for equal time, and draw the test patients with it.

Leaves one synthetic PET a test patient, SUVbw on the CT's grid: OUT/konfai/<CT SeriesInstanceUID>.mha. With --model the
report of `main.py evaluate` compares them with that model's. Steps that are done are not done again.
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
PACE_CASES = 3  # enough steps to tell the pace, few enough to take under a minute
SHARE = 0.95  # of the time is planned for epochs; the rest is for starting, caching and a slower moment
FREE_SHARE = 0.8  # of one core: with less, minutes on the clock are not minutes of training
EPOCH = re.compile(r"\[KonfAI\] epoch ([\d.]+) s = .*? validation ([\d.]+)")


@dataclass(frozen=True)
class Plan:
    """How many epochs fit into the time.

    Attributes:
        epochs: At least 1.
        epoch_s: Seconds one is expected to take, validation included.
        step_s: Seconds one step of training took.
    """

    epochs: int
    epoch_s: float
    step_s: float


def main() -> int:
    """Run the comparison and return the exit code."""
    wanted = arguments()
    try:
        compare(wanted)
    except CT2PETError as error:
        raise SystemExit(str(error)) from error
    return 0


def arguments() -> argparse.Namespace:
    """Return what was asked for on the command line."""
    parser = argparse.ArgumentParser(prog="scripts/compare-konfai", description=__doc__)
    parser.add_argument("studies", type=Path, help="folder of DICOM studies")
    parser.add_argument("--out", type=Path, required=True, help="folder to leave everything in")
    parser.add_argument("--minutes", type=float, default=60.0, help="wall-clock time KonfAI trains (default 60)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of KonfAI (default: every core)")
    parser.add_argument(
        "--model", type=Path, help="our .safetensors: its recipe's grid and split, and a report beside it"
    )
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change the default recipe's grid or split")
    parser.add_argument("--note", default="", help="a line below every picture, such as the data's attribution")
    environment = Path(os.environ.get("CT2PET_KONFAI") or ROOT / ".venv-konfai")
    parser.add_argument("--environment", type=Path, default=environment, help="of KonfAI (default .venv-konfai)")
    wanted = parser.parse_args()
    if not wanted.studies.is_dir():
        parser.error(f"{wanted.studies}: no such folder")
    if wanted.model and wanted.set:
        parser.error("--set changes the default recipe, but --model brings its own; give one of them")
    if not wanted.minutes > 0 or wanted.threads < 1:
        parser.error(f"--minutes is above 0 and --threads at least 1, found {wanted.minutes:g} and {wanted.threads}")
    return wanted


def compare(wanted: argparse.Namespace) -> None:
    """Do every step that is not done yet."""
    card = read_card(wanted.model) if wanted.model else None
    recipe = card.recipe if card else load_recipe(settings=wanted.set or ())
    out = wanted.out.resolve()
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    program = installed(wanted.environment.resolve(), tell=say)
    pairs = pair_series(scan_folder(wanted.studies)).pairs
    say(f"{len(pairs)} CT/PET pairs; arrays and cases in {work}")
    report = prepare_pairs(pairs, work / "prepared", preparation=recipe.preparation)
    for failed in report.failed:
        say(f"left out: CT {failed.ct_series_instance_uid}: {failed.reason}")
    cases = export_cases(report.prepared, recipe.split, work / "cases")
    say(", ".join(f"{side}: {len(of(cases, side))} cases" for side in ("train", "validation", "test")))
    if card is not None and trained_on(report.prepared, cases) != set(card.training.patients):
        say("Note: the model was trained on other patients than KonfAI will be; the comparison is not on equal data.")
    konfai = Konfai(program, work, threads=wanted.threads, tell=say)
    words = words_for(report.prepared, recipe)
    checkpoint = train(konfai, work, cases, words, minutes=wanted.minutes)
    predict(konfai, work, out / "konfai", checkpoint, words, cases=cases, pairs=pairs, recipe=recipe)
    say(f"Synthetic PETs of KonfAI, SUVbw: {out / 'konfai'}")
    if wanted.model:
        evaluate(wanted, out)


def of(cases: Sequence[Case], side: str) -> list[Case]:
    """Return the cases on one side of the split."""
    return [case for case in cases if case.side == side]


def trained_on(prepared: PreparedSet, cases: Sequence[Case]) -> set[str]:
    """Return the digests of the patients KonfAI learns from, as a model card names them."""
    pairs = zip(prepared.pairs, cases, strict=True)
    return {patient_digest(pair.patient_id) for pair, case in pairs if case.side == "train"}


def words_for(prepared: PreparedSet, recipe: Recipe) -> dict[str, object]:
    """Return what the YAML templates need to know of the data: one patch holds any whole slice."""
    rows, columns = (max(pair.shape[axis] for pair in prepared.pairs) for axis in (1, 2))
    low, high = recipe.windows.ct_low_hu, recipe.windows.ct_high_hu
    return {
        "rows": math.ceil(rows / MULTIPLE) * MULTIPLE,
        "columns": math.ceil(columns / MULTIPLE) * MULTIPLE,
        "ct_low_hu": low,
        "ct_high_hu": high,
        "ct_span_hu": high - low,
    }


def train(konfai: Konfai, work: Path, cases: Sequence[Case], words: dict[str, object], *, minutes: float) -> Path:
    """Return KonfAI's best checkpoint on the validation patients after so many minutes."""
    done, asked = work / "trained.json", fingerprint(work, words, minutes)
    if (checkpoint := finished(done, asked)) is not None:
        say(f"Trained already: {checkpoint}")
        return checkpoint
    say("Measuring KonfAI's pace on a few cases (not counted)")
    pace = measure_pace(konfai, work, cases, words)
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
        **words,
    )
    say(f"Training KonfAI for at most {minutes:g} minutes (its words: {work / 'train.log'})")
    started, used = time.monotonic(), processor_s()
    konfai.run("TRAIN", "-y", "--config", path.name, log="train.log", seconds=minutes * 60)
    took_s, had_s = time.monotonic() - started, processor_s() - used
    checkpoint = best_checkpoint(work / "Checkpoints" / "CT2PET", minutes)
    shutil.rmtree(work.parent / "konfai", ignore_errors=True)  # an earlier training's
    shutil.rmtree(work / "Predictions", ignore_errors=True)
    told = {"asked": asked, "checkpoint": str(checkpoint.relative_to(work)), "planned_epochs": plan.epochs}
    measured = {"step_s": plan.step_s, "minutes": took_s / 60, "processor_minutes": had_s / 60}
    write_text(done, json.dumps({**told, **{name: round(value, 3) for name, value in measured.items()}}, indent=1))
    say(f"Trained for {took_s / 60:.1f} minutes, of which the processor worked {had_s / 60:.1f} for KonfAI")
    if had_s < FREE_SHARE * took_s:
        say("Note: other work took much of the processor, so these minutes count less; train again when it is free")
    return checkpoint


def processor_s() -> float:
    """Return the processor seconds of every program that was run from here and has ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def fingerprint(work: Path, words: dict[str, object], minutes: float) -> str:
    """Return a hash that changes whenever another training is asked for."""
    parts = [(HERE / "train.yml").read_text(), (work / "cases" / "cases.json").read_text(), repr((words, minutes))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def finished(done: Path, asked: str) -> Path | None:
    """Return the checkpoint of a finished training of the same kind, or None."""
    try:
        told = json.loads(done.read_text())
    except (OSError, ValueError):
        return None
    checkpoint = done.parent / str(told.get("checkpoint"))
    return checkpoint if told.get("asked") == asked and checkpoint.is_file() else None


def measure_pace(konfai: Konfai, work: Path, cases: Sequence[Case], words: dict[str, object]) -> tuple[float, float]:
    """Return the seconds a slice takes in training and in validation, over one epoch of a few cases."""
    some, judge = of(cases, "train")[:PACE_CASES], of(cases, "validation")[0]
    path = write_configuration(
        "train.yml",
        work / "pace.yml",
        name="PACE",
        epochs=1,
        subset=[case.name for case in (*some, judge)],
        validation=[judge.name],
        **words,
    )
    said = konfai.run("TRAIN", "-y", "--config", path.name, log="pace.log")
    found = EPOCH.search(said)
    if found is None:
        raise SystemExit(f"KonfAI did not tell how long its epoch took; is it another version? See {work / 'pace.log'}")
    whole_s, validation_s = float(found[1]), float(found[2])
    slices = COPIES * sum(case.slices for case in some)
    return (whole_s - validation_s) / slices, validation_s / judge.slices


def plan_epochs(pace: tuple[float, float], cases: Sequence[Case], minutes: float) -> Plan:
    """Return how many epochs fit, at the measured seconds a slice in training and in validation."""
    training, validation = (sum(case.slices for case in of(cases, side)) for side in ("train", "validation"))
    epoch_s = COPIES * training * pace[0] + validation * pace[1]
    epochs = int(SHARE * minutes * 60 / epoch_s)
    if epochs < 1:
        raise SystemExit(
            f"one epoch of KonfAI takes about {epoch_s / 60:.1f} minutes here, so none would end within --minutes "
            f"{minutes:g}; give more minutes or --threads"
        )
    return Plan(epochs, epoch_s, BATCH * pace[0])


def best_checkpoint(folder: Path, minutes: float) -> Path:
    """Return the checkpoint KonfAI kept as its best; `crash_` and `resume_` are where it stood when it was stopped."""
    kept = [path for path in folder.glob("*.pt") if not path.name.startswith(("crash_", "resume_"))]
    if not kept:
        raise SystemExit(f"{folder}: no epoch ended within {minutes:g} minutes, so nothing was kept; give more minutes")
    return max(kept, key=lambda path: path.stat().st_mtime)


def predict(
    konfai: Konfai,
    work: Path,
    out: Path,
    checkpoint: Path,
    words: dict[str, object],
    *,
    cases: Sequence[Case],
    pairs: Sequence[PairedSeries],
    recipe: Recipe,
) -> None:
    """Write the synthetic PET of every test patient that has none yet."""
    missing = [case for case in of(cases, "test") if not (out / f"{case.ct_series_instance_uid}.mha").is_file()]
    if not missing:
        say("Predicted already")
        return
    say(f"Drawing {len(missing)} test patients with {checkpoint.name}")
    path = write_configuration("predict.yml", work / "predict.yml", name="CT2PET", **words)
    konfai.run(
        "PREDICTION", "-y", "--config", path.name, "--models", str(checkpoint.relative_to(work)), log="predict.log"
    )
    ct_of = {paired.pair.ct.uid: paired.pair.ct for paired in pairs}
    drawn = work / "Predictions" / "CT2PET" / "Dataset"
    for case in missing:
        import_prediction(
            drawn / case.name / "PET.mha", ct_of[case.ct_series_instance_uid], out, windows=recipe.windows
        )


def evaluate(wanted: argparse.Namespace, out: Path) -> None:
    """Set our model and KonfAI side by side in the report."""
    command = [sys.executable, ROOT / "main.py", "evaluate", wanted.studies, "--model", wanted.model]
    command += ["--out", out / "report", "--compare", f"KonfAI={out / 'konfai'}", "--note", wanted.note]
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def say(words: str) -> None:
    """Tell the person in front of the screen."""
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
