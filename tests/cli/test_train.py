"""`prepare`, `train`, `card` and `study` on phantoms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lib.cli.studies import start_tracking
from lib.learning.checkpoint import save_checkpoint
from lib.learning.tracking import mlflow_logger
from lib.learning.tracking.progress import read_history
from lib.networks.cascade import Cascade
from lib.phantom.dicom import write_study
from lib.phantom.generate import PhantomSettings, phantom_patient
from tests.cli.runner import SETTINGS, refused, run, run_json
from tests.learning.conftest import make_card

pytestmark = pytest.mark.usefixtures("own_cache")


def test_prepare_reports_new_and_reused_pairs(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "arrays"
    assert run_json(capsys, "prepare", studies, "--out", out, *SETTINGS) == {
        "out": str(out), "pairs": 4, "reused": 0, "failed": [], "without_organs": [],
    }  # fmt: skip
    code, out_text, _ = run(capsys, "prepare", studies, "--out", out, *SETTINGS)
    assert (code, out_text) == (0, f"4 pairs in {out}, 4 reused\n")
    assert "choose another folder" in refused(capsys, "prepare", studies, "--out", out, "--recipe", "paper")


def test_a_pair_that_cannot_be_prepared_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)
    write_study(phantom_patient(1, 0, small), tmp_path / "studies" / "1")
    write_study(phantom_patient(2, 0, replace(small, pet_slice_offset_mm=1.5)), tmp_path / "studies" / "2")
    arguments = ("prepare", tmp_path / "studies", "--recipe", "paper", "--set", "grid.size=32")
    result = run_json(capsys, *arguments, "--out", tmp_path / "arrays")
    assert result["pairs"] == 1
    (failed,) = result["failed"]
    assert failed["patient_id"] == "PHANTOM_0002" and "no PET slice is within 0.2 mm" in failed["reason"]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "other")
    assert code == 0 and out.startswith("1 pairs in ")
    assert err.startswith("skipped: PHANTOM_0002: no PET slice is within 0.2 mm")


def test_training_writes_a_model_and_prints_a_table(
    arrays: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the run is finished: --resume returns it as it is
    code, out, _ = run(capsys, "train", arrays, "--out", model.parent, *SETTINGS, "--resume")
    assert code == 0
    assert (
        "1 validation patients" in out
        and "body MAE [SUV]" in out
        and "body PSNR [dB]" in out
        and "median SUV per HU" in out
    )
    assert "tested on 1 validation patient, on whom its weights were selected (few, so" in out
    assert f"2 epochs (the run was finished before); model: {model}" in out


def test_training_prints_json(arrays: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_json(capsys, "train", arrays, "--out", model.parent, *SETTINGS, "--resume")
    assert result.keys() == {"model", "epochs", "stopped_because", "scores", "standing"}
    assert result["model"] == str(model) and result["scores"]["side"] == "validation"
    assert result["scores"]["table"].keys() == {"model", "zero", "constant", "hu_mean", "hu_median"}


def test_a_card_is_shown(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "card", model)
    assert code == 0 and "quantitative-2" in out and "2 patients, 2 pairs, 20 slices" in out
    assert "computed chest phantom (2 patients)" in out and "CHEST" in out and "not used in training" in out
    assert "Trained on 2 patients: one CT scanner model (ct2pet computed chest phantom)" in out
    result = run_json(capsys, "card", model)
    assert result["standing"]["sentence"] in out
    assert list(result["scores"]["by_patient"]) == result["training"]["validation_patients"]
    assert "not a readable .safetensors file" in refused(capsys, "card", model.parent / "recipe.json")


def test_metrics_that_a_card_does_not_have_are_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = make_card()  # SSIM and PSNR of the slices, without intervals
    assert card.scores is not None
    columns = {"mae_suv_body": {"mean": 0.5, "low": None, "high": None, "count": 1}}
    scores = replace(card.scores, intervals={"model": columns, "zero": {}})
    for number, changed in enumerate((card, replace(card, scores=scores))):
        path = save_checkpoint(tmp_path / f"{number}.safetensors", Cascade(card.network), changed)
        code, out, _ = run(capsys, "card", path)
        assert code == 0 and "not measured" in out


def test_training_starts_from_dicom_and_takes_stages(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_json(
        capsys, "train", studies, "--out", tmp_path / "run", *SETTINGS, "--set", "epochs=1", "--stages", "1"
    )
    assert result["epochs"] == 1 and len(read_history(tmp_path / "run")) == 1
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["network"]["stages"] == 1
    assert (tmp_path / "run" / "prepared" / "index.json").is_file()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_finished_run_can_be_tracked_afterwards(
    arrays: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--resume", "--tracking", "mlflow", "--tracking-uri", tmp_path / "all", "--experiment", "phantoms")
    run_json(capsys, "train", arrays, "--out", model.parent, *SETTINGS, *options)
    result = json.loads((model.parent / "tracking.json").read_text())
    assert result["experiment"] == "phantoms" and (tmp_path / "all" / "mlflow.db").is_file()
    (card,) = (tmp_path / "all").glob(f"mlruns/{result['run_id']}/artifacts/model_card.json")
    assert "PHANTOM" not in card.read_text()


def test_a_study_writes_a_table_and_seven_figures(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("study", arrays, "--out", tmp_path / "study", *SETTINGS, "--set", "epochs=1", "--stages", "1")
    result = run_json(capsys, *command)
    assert [row["stages"] for row in result["rows"]] == [1]
    assert len(result["figures"]) == 7 and all(Path(path).is_file() for path in (result["table"], *result["figures"]))
    code, out, _ = run(capsys, *command)
    (table,) = (tmp_path / "study").glob("*.md")
    assert code == 0 and out.startswith(table.read_text()) and out.endswith("\n".join(result["figures"]) + "\n")
    assert "stages '7'" in refused(capsys, *command[:-1], "7")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--recipe", "papier"], "unknown recipe 'papier': expected paper, quantitative"),
        (["--set", "epoch=3"], "did you mean schedule.epochs?"),
        (["--set", "epochs=many"], "schedule.epochs is int, found 'many'"),
        (["--stages", "7"], "network.stages must be 1 to 6, found 7"),
        (["--tracking", "wandb"], "tracking 'wandb': expected mlflow or none"),
        (["--device", "gpu"], "unknown device 'gpu'; expected auto, cpu, cuda or cuda:1"),
        (["--set", "split.test=0.7", "--set", "split.validation=0.29"], "none of the 4 patients falls on the training"),
    ],
)
def test_invalid_options_exit_with_2(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], error: str
) -> None:
    assert error in refused(capsys, "train", arrays, "--out", tmp_path / "run", *SETTINGS, *options)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_continue_exits_with_1_and_says_why(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ("--set", "learning_rate=1e30", "--set", "clip_norm=0", "--set", "normalization=none")
    code, out, err = run(capsys, "train", arrays, "--out", tmp_path / "run", *SETTINGS, *wild)
    assert (code, out) == (1, "")
    assert err.startswith("error: epoch 1: the loss is ") and err.count("\n") == 1
    assert "lower optimiser.learning_rate" in err


def test_training_on_a_folder_without_dicom_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no DICOM series found" in refused(capsys, "train", tmp_path / "empty", "--out", tmp_path / "run")


@pytest.mark.parametrize(("name", "calls"), [("mlflow", ["configured"]), ("none", [])])
def test_the_process_is_configured_for_mlflow_only_with_tracking(
    monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]
) -> None:
    made: list[str] = []
    monkeypatch.setattr(mlflow_logger, "configure_mlflow_process", lambda: made.append("configured"))
    assert (start_tracking(name, uri="", experiment="") is not None) == bool(calls)
    assert made == calls
