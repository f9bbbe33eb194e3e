"""scripts/compare-konfai: planning of the training time, reuse of finished steps, and a full run on phantoms."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lib.dicom.read.volume import read_ct, read_pet
from lib.dicom.scan.scan import scan_folder
from lib.evaluation.slice_metrics import align
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.grid import Grid
from lib.imaging.volume import Unit
from lib.pairing.pairs import pair_series
from lib.phantom.generate import write_phantoms
from scripts.compare_konfai import EPOCH, arguments, best_checkpoint, finished, plan_epochs
from scripts.konfai.cases import Case
from scripts.konfai.program import HERE, Konfai, progress_of, write_configuration
from tests.conftest import REPOSITORY, REQUIRED, missing

SCRIPT = REPOSITORY / "scripts" / "compare-konfai"
# 100 training and 30 validation slices at 0.1 and 0.05 s per slice: 100 * 2 * 0.1 + 30 * 0.05 = 21.5 s per epoch
CASES = [Case("a", "train", "1", 60), Case("b", "train", "2", 40), Case("c", "validation", "3", 30)]
OUTPUT = (
    "Training : Loss (UNet(0.001000) : MAE(1.00) : 0.051220) Memory (3.02G (12.80 %)):  86% 320/373\r"
    "Validation : Loss (UNet(0.000010) : MAE(1.00) : 0.050197) Memory (2.51G (10.70 %)): 100% 41/41\r"
    "[KonfAI] epoch 10.5 s = wait(data) 0.1 + forward 3.9 + criteria 0.0 + backward+step 6.1 + ema 0.0 + telemetry 0.0"
    " + validation 0.2 + checkpoint 0.0 + other 0.0\n"
)


@pytest.mark.parametrize(
    ("minutes", "epochs"),
    [(1, 2), (10, 26), (60, 159)],  # 0.95 * 60 / 21.5 = 2.65; 26.5; 159.1
)
def test_as_many_epochs_are_planned_as_fit(minutes: float, epochs: int) -> None:
    plan = plan_epochs((0.1, 0.05), CASES, minutes)
    assert plan.epochs == epochs
    assert plan.epoch_s == pytest.approx(21.5)
    assert plan.step_s == pytest.approx(0.8)  # 8 slices


def test_too_little_time_is_reported_before_training() -> None:
    with pytest.raises(SystemExit, match=r"one epoch of KonfAI takes about 0.4 minutes .* --minutes 0.2; give more"):
        plan_epochs((0.1, 0.05), CASES, 0.2)


def test_speed_and_progress_are_parsed_from_the_output() -> None:
    found = EPOCH.search(OUTPUT)
    assert found is not None
    assert (found[1], found[2]) == ("10.5", "0.2")
    assert progress_of(OUTPUT) == "1 epochs finished, loss 0.051220, on validation patients 0.050197"
    assert progress_of("") == "0 epochs finished"


def konfai_that(does: str, folder: Path) -> Konfai:
    """A shell script instead of KonfAI."""
    program = folder / "konfai"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return Konfai(program, folder, threads=1, report=lambda message: None)


def test_a_partly_written_character_in_the_log_is_replaced(tmp_path: Path) -> None:
    assert konfai_that(r"printf 'done \342\226'", tmp_path).run("TRAIN", log="train.log").startswith("done ")


def test_a_failure_is_reported_with_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"KonfAI TRAIN failed; the end of .*train\.log:\nno such thing"):
        konfai_that("echo no such thing; exit 3", tmp_path).run("TRAIN", log="train.log")


def test_the_best_checkpoint_is_no_crash_or_resume_file(tmp_path: Path) -> None:
    for number, name in enumerate(("2026_01_01.pt", "2026_01_02.pt", "crash_2026_01_03.pt", "resume_latest.pt")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (number, number))
    assert best_checkpoint(tmp_path, 5).name == "2026_01_02.pt"


def test_a_training_without_a_checkpoint_is_reported(tmp_path: Path) -> None:
    (tmp_path / "crash_2026_01_03.pt").write_bytes(b"")
    with pytest.raises(SystemExit, match="no epoch finished within 5 minutes; give more minutes"):
        best_checkpoint(tmp_path, 5)


def test_only_a_training_with_the_same_fingerprint_and_a_checkpoint_is_finished(tmp_path: Path) -> None:
    done = tmp_path / "trained.json"
    assert finished(done, "abc") is None
    done.write_text(json.dumps({"request": "abc", "checkpoint": "best.pt"}))
    assert finished(done, "abc") is None
    (tmp_path / "best.pt").write_bytes(b"")
    assert finished(done, "abc") == tmp_path / "best.pt"
    assert finished(done, "other") is None


@pytest.mark.parametrize("template", ["train.yml", "predict.yml"])
def test_all_values_of_a_template_are_filled_in(template: str, tmp_path: Path) -> None:
    values = {"name": "N", "epochs": 3, "subset": ["a", "b"], "validation": "v.txt", "rows": 112, "columns": 128,
              "channels": [5, 16, 32]}  # fmt: skip
    window = {"ct_low_hu": -1000.0, "ct_high_hu": 1000.0, "ct_span_hu": 2000.0}
    text = write_configuration(template, tmp_path / template, **values, **window).read_text()
    assert "$" not in text
    assert "patch_size: [1, 112, 128]" in text
    assert "std: [2000.0]" in text


def test_training_and_prediction_use_the_same_network() -> None:
    def network(template: str) -> str:
        text = (HERE / template).read_text()
        return text[text.index("      dim: 2") : text.index("      outputs_criterions")]

    assert network("train.yml") == network("predict.yml")


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (("no-such-folder", "--out", "out"), "no-such-folder: no such folder"),
        ((".", "--out", "out", "--minutes", "0"), "--minutes must be above 0 and --threads at least 1, found 0 and"),
        ((".", "--out", "out", "--model", "m", "--set", "pixel_mm=4"), "--model has its own; give one of them"),
    ],
)
def test_an_invalid_command_line_is_rejected(
    command_line: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/compare-konfai", *command_line])
    with pytest.raises(SystemExit) as rejected:
        arguments()
    assert rejected.value.code == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def environment() -> Path:
    """KonfAI's virtual environment; a missing one is created only where the run is required."""
    folder = Path(os.environ.get("CT2PET_KONFAI") or REPOSITORY / ".venv-konfai")
    if not (folder / "bin" / "konfai").is_file() and "konfai" not in REQUIRED:
        missing("konfai", f"no environment of KonfAI in {folder.name}; scripts/compare-konfai creates it")
    return folder


@pytest.mark.slow
def test_a_full_run_on_phantoms_predicts_the_test_patient_and_is_not_repeated(
    environment: Path, tmp_path: Path
) -> None:
    studies, out = tmp_path / "studies", tmp_path / "out"
    write_phantoms(studies, patients=3)
    # tests/pairing/test_split.py: 0001 is at 0.389, 0002 at 0.138, 0003 at 0.401
    sets = ("--set", "pixel_mm=8", "--set", "split.test=0.15", "--set", "split.validation=0.24")
    options = [studies, "--out", out, "--minutes", "0.5", "--threads", "1", "--environment", environment, *sets]
    command = [str(part) for part in (SCRIPT, *options)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    paired = next(p.pair for p in pair_series(scan_folder(studies)).pairs if p.pair.ct.patient_id == "PHANTOM_0002")
    assert [path.name for path in (out / "konfai").iterdir()] == [f"{paired.ct.uid}.mha"]
    synthetic = read_volume_file(out / "konfai" / f"{paired.ct.uid}.mha", unit=Unit.SUV_BW)
    volumes = align(synthetic, ct=read_ct(paired.ct), pet=read_pet(paired.pet), grid=Grid(pixel_mm=8.0))
    # the quality depends on the speed of this machine; the geometry does not
    assert synthetic.geometry.same_grid_as(read_ct(paired.ct).geometry)
    assert synthetic.array.min() >= 0
    assert volumes.synthetic_suv[volumes.body].sum() > 0.9 * volumes.synthetic_suv.sum() > 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "Trained already" in again.stdout
    assert "Predicted already" in again.stdout
