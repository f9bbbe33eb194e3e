"""scripts/compare-konfai: equal time is planned from a measured pace, done steps stay done, and the whole path runs."""

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
# 100 slices to learn from and 30 to choose by: at 0.1 and 0.05 s a slice, 100 * 2 * 0.1 + 30 * 0.05 = 21.5 s an epoch
CASES = [Case("a", "train", "1", 60), Case("b", "train", "2", 40), Case("c", "validation", "3", 30)]
SAID = (
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


def test_too_little_time_is_said_before_it_is_spent() -> None:
    with pytest.raises(SystemExit, match=r"one epoch of KonfAI takes about 0.4 minutes .* --minutes 0.2; give more"):
        plan_epochs((0.1, 0.05), CASES, 0.2)


def test_konfais_words_tell_pace_and_progress() -> None:
    found = EPOCH.search(SAID)
    assert found is not None
    assert (found[1], found[2]) == ("10.5", "0.2")
    assert progress_of(SAID) == "1 epochs done, loss 0.051220, on validation patients 0.050197"
    assert progress_of("") == "0 epochs done"


def konfai_that(does: str, folder: Path) -> Konfai:
    """A shell script in the place of KonfAI."""
    program = folder / "konfai"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return Konfai(program, folder, threads=1, tell=lambda words: None)


def test_half_a_character_in_konfais_words_ends_nothing(tmp_path: Path) -> None:
    assert konfai_that(r"printf 'done \342\226'", tmp_path).run("TRAIN", log="train.log").startswith("done ")


def test_a_konfai_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"KonfAI TRAIN failed; the end of .*train\.log:\nno such thing"):
        konfai_that("echo no such thing; exit 3", tmp_path).run("TRAIN", log="train.log")


def test_the_best_checkpoint_is_neither_a_crash_nor_where_to_resume(tmp_path: Path) -> None:
    for number, name in enumerate(("2026_01_01.pt", "2026_01_02.pt", "crash_2026_01_03.pt", "resume_latest.pt")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (number, number))
    assert best_checkpoint(tmp_path, 5).name == "2026_01_02.pt"


def test_a_training_that_kept_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "crash_2026_01_03.pt").write_bytes(b"")
    with pytest.raises(SystemExit, match="no epoch ended within 5 minutes, so nothing was kept; give more minutes"):
        best_checkpoint(tmp_path, 5)


def test_only_a_training_of_the_same_kind_whose_checkpoint_is_there_counts_as_done(tmp_path: Path) -> None:
    done = tmp_path / "trained.json"
    assert finished(done, "abc") is None
    done.write_text(json.dumps({"asked": "abc", "checkpoint": "best.pt"}))
    assert finished(done, "abc") is None
    (tmp_path / "best.pt").write_bytes(b"")
    assert finished(done, "abc") == tmp_path / "best.pt"
    assert finished(done, "other") is None


@pytest.mark.parametrize("template", ["train.yml", "predict.yml"])
def test_a_template_leaves_no_word_open(template: str, tmp_path: Path) -> None:
    words = {"name": "N", "epochs": 3, "subset": ["a", "b"], "validation": "v.txt", "rows": 112, "columns": 128}
    window = {"ct_low_hu": -1000.0, "ct_high_hu": 1000.0, "ct_span_hu": 2000.0}
    text = write_configuration(template, tmp_path / template, **words, **window).read_text()
    assert "$" not in text
    assert "patch_size: [1, 112, 128]" in text
    assert "std: [2000.0]" in text


def test_training_and_prediction_name_the_same_network() -> None:
    def network(template: str) -> str:
        text = (HERE / template).read_text()
        return text[text.index("      dim: 2") : text.index("      outputs_criterions")]

    assert network("train.yml") == network("predict.yml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-folder", "--out", "out"), "no-such-folder: no such folder"),
        ((".", "--out", "out", "--minutes", "0"), "--minutes is above 0 and --threads at least 1, found 0 and"),
        ((".", "--out", "out", "--model", "m", "--set", "pixel_mm=4"), "--model brings its own; give one of them"),
    ],
)
def test_a_wrong_word_is_refused_with_the_right_one(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/compare-konfai", *words])
    with pytest.raises(SystemExit) as refused:
        arguments()
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def environment() -> Path:
    """KonfAI's own environment: one that is there, or one to make where the run is required."""
    wanted = Path(os.environ.get("CT2PET_KONFAI") or REPOSITORY / ".venv-konfai")
    if not (wanted / "bin" / "konfai").is_file() and "konfai" not in REQUIRED:
        missing("konfai", f"no environment of KonfAI in {wanted.name}; scripts/compare-konfai makes it")
    return wanted


@pytest.mark.slow
def test_phantoms_are_learnt_from_and_the_test_patient_is_drawn_and_nothing_is_done_twice(
    environment: Path, tmp_path: Path
) -> None:
    studies, out = tmp_path / "studies", tmp_path / "out"
    write_phantoms(studies, patients=3)
    # tests/pairing/test_split.py: 0001 lies at 0.389, 0002 at 0.138, 0003 at 0.401
    sets = ("--set", "pixel_mm=8", "--set", "split.test=0.15", "--set", "split.validation=0.24")
    words = [studies, "--out", out, "--minutes", "0.5", "--threads", "1", "--environment", environment, *sets]
    command = [str(word) for word in (SCRIPT, *words)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    paired = next(p.pair for p in pair_series(scan_folder(studies)).pairs if p.pair.ct.patient_id == "PHANTOM_0002")
    assert [path.name for path in (out / "konfai").iterdir()] == [f"{paired.ct.uid}.mha"]
    synthetic = read_volume_file(out / "konfai" / f"{paired.ct.uid}.mha", unit=Unit.SUV_BW)
    volumes = align(synthetic, ct=read_ct(paired.ct), pet=read_pet(paired.pet), grid=Grid(pixel_mm=8.0))
    # how well it is drawn depends on how fast this machine is; where it is drawn does not
    assert synthetic.geometry.same_grid_as(read_ct(paired.ct).geometry)
    assert synthetic.array.min() >= 0
    assert volumes.synthetic_suv[volumes.body].sum() > 0.9 * volumes.synthetic_suv.sum() > 0
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "Trained already" in again.stdout
    assert "Predicted already" in again.stdout
