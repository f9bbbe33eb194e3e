"""A run from its first step to its published model, through every way it can be cut off."""

import json
import multiprocessing
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lib.errors import PreparedDataError, RecipeError, TrainingError
from lib.learning import validation
from lib.learning.checkpoint import load_checkpoint, read_card
from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import patient_digest
from lib.learning.recipe import Recipe
from lib.learning.tracking.progress import KEY_METRIC, read_history
from lib.learning.training import MODEL_FILE, TrainingResult, train
from lib.learning.validation import synthesize_prepared
from lib.metrics.calibration import Calibration
from lib.metrics.conformal.intervals import Intervals
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PairArrays, PreparedSet
from tests.learning import killed_training
from tests.learning.conftest import make_prepared, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """Arrays that no test of this file changes."""
    return make_prepared(tmp_path_factory.mktemp("prepared"), tiny_recipe().preparation)


@pytest.fixture(scope="module")
def finished(shared: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """A finished run of the tiny recipe, which no test changes."""
    return train(shared, tiny_recipe(), tmp_path_factory.mktemp("finished") / "run")


def test_it_learns_and_beats_every_baseline(prepared: PreparedSet, tmp_path: Path) -> None:
    recipe = tiny_recipe("epochs=40", "learning_rate=0.01", "patience=0")
    result = train(prepared, recipe, tmp_path / "run")
    assert result.card.scores is not None
    table = result.card.scores.table
    assert (result.card.scores.side, result.card.scores.patients) == ("validation", 2)
    assert all(table["model"]["psnr_db_body"] > table[name]["psnr_db_body"] for name in ("zero", "constant"))  # type: ignore[operator]
    losses = [record.loss for record in read_history(tmp_path / "run")]
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize(("limit", "measured"), [(96, 6), (12, 6), (11, 3), (5, 2)])
def test_an_epoch_measures_evenly_spaced_slices_of_many(
    shared: PreparedSet, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, limit: int, measured: int
) -> None:
    slices: list[int] = []
    synthesize = validation.synthesize_prepared

    def counted(cascade: Cascade, arrays: PairArrays, indices: Sequence[int], *args: Any, **options: Any) -> Any:
        slices.append(len(indices))
        return synthesize(cascade, arrays, indices, *args, **options)

    monkeypatch.setattr(validation, "synthesize_prepared", counted)
    monkeypatch.setattr(validation, "MAX_EPOCH_SLICES", limit)
    sides = split_pairs(shared, recipe.split)  # two validation patients of six slices
    metrics = validation.validate(Cascade(recipe.network), shared, sides, recipe, device=torch.device("cpu"))
    assert slices == [measured, measured]
    assert metrics["mae_suv_body"] > 0


def test_the_card_identifies_training_patients_by_hash_only(finished: TrainingResult) -> None:
    card = finished.card
    assert (len(card.training.patients), len(card.training.validation_patients)) == (3, 2)
    assert card.training.slices == 18
    assert card.familiarity is not None and card.familiarity["patients"] == 3
    assert not {"P0", "P1", "P5"} & set(card.training.patients)
    split = json.loads((finished.model.parent / "split.json").read_text())
    assert split["patients"]["train"] == ["P0", "P1", "P5"]


def test_a_run_keeps_assigned_sides_and_its_card_says_so(
    shared: PreparedSet, finished: TrainingResult, recipe: Recipe, tmp_path: Path
) -> None:
    by_hash = finished.card.training
    assigned = train(shared, recipe, tmp_path / "run", assigned={"P0": "test", "P2": "train"}).card.training
    split = json.loads((tmp_path / "run" / "split.json").read_text())["patients"]
    assert (split["train"], "P0" in split["test"]) == (["P1", "P2", "P5"], True)
    assert patient_digest("P2") in assigned.patients and patient_digest("P0") in assigned.test_patients
    assert (by_hash.split_by_hash, assigned.split_by_hash) == (True, False)
    assert by_hash.split != assigned.split


def test_a_resumed_run_keeps_its_sides(prepared: PreparedSet, tmp_path: Path) -> None:
    """A patient moved while the training is stopped: training patients must not validate it."""
    recipe = tiny_recipe("epochs=3", "patience=0")
    first: list[int] = []

    def stop(done: int, total: int, what: str) -> None:
        first.append(done)
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, recipe, tmp_path / "run", progress=stop)
    card = train(prepared, recipe, tmp_path / "run", resume=True, assigned={"P0": "validation"}).card
    assert patient_digest("P0") in card.training.patients


def test_statistics_have_the_format_of_monai_labels_clients(finished: TrainingResult) -> None:
    run = finished.model.parent
    stats = json.loads((run / "train_stats.json").read_text())
    assert (stats["epoch"], stats["total_epochs"]) == (2, 2)
    assert 0 <= stats["best_metric"] <= 1
    assert isinstance(stats["total_time"], str)
    assert stats["eval"]["key_metric_name"] == KEY_METRIC
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_a_run_interrupted_in_an_epoch_gives_the_same_weights(prepared: PreparedSet, tmp_path: Path) -> None:
    recipe = tiny_recipe("epochs=4")
    train(prepared, recipe, tmp_path / "whole")

    def cut_off(done: int, total: int, what: str) -> None:
        if done == 10:  # 4 steps an epoch: in the middle of the third
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, recipe, tmp_path / "cut", progress=cut_off)
    assert not (tmp_path / "cut" / MODEL_FILE).exists()
    train(prepared, recipe, tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole" / MODEL_FILE, tmp_path / "cut" / MODEL_FILE)
    assert [record.epoch for record in read_history(tmp_path / "cut")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_killed_repeatedly_finishes(prepared: PreparedSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    processes = multiprocessing.get_context("forkserver")  # torch is imported once, not once a process
    processes.set_forkserver_preload([killed_training.__name__])
    for epochs_before_kill in (1, 3):
        process = processes.Process(target=killed_training.train_or_resume, args=(prepared.root, run))
        process.start()
        deadline = time.monotonic() + 120
        while len(read_history(run)) < epochs_before_kill and time.monotonic() < deadline and process.is_alive():
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(read_history(run)) >= epochs_before_kill
        assert not (run / MODEL_FILE).exists()
    process = processes.Process(target=killed_training.train_or_resume, args=(prepared.root, run))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [record.epoch for record in read_history(run)] == list(range(1, killed_training.EPOCHS + 1))
    load_checkpoint(run / MODEL_FILE)


def test_a_damaged_resume_file_falls_back_to_the_previous_one(prepared: PreparedSet, tmp_path: Path) -> None:
    def cut_off(done: int, total: int, what: str) -> None:
        if done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, tiny_recipe("epochs=4"), tmp_path / "run", progress=cut_off)
    newest = max((tmp_path / "run").glob("resume_*.pt"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:100])
    result = train(prepared, tiny_recipe("epochs=4"), tmp_path / "run", resume=True)
    assert result.epochs == 4
    assert [record.epoch for record in read_history(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_finished_run_is_returned_unchanged(shared: PreparedSet, finished: TrainingResult, recipe: Recipe) -> None:
    first = finished.model.stat().st_mtime_ns
    again = train(shared, recipe, finished.model.parent, resume=True)
    assert (again.model.stat().st_mtime_ns, again.stopped_because) == (first, "the run was finished before")


def test_patience_ends_a_run_without_improvement(prepared: PreparedSet, tmp_path: Path) -> None:
    # no average of weights: its rounding changes them a little where float32 is used
    recipe = tiny_recipe("epochs=50", "patience=2", "learning_rate=1e-30", "normalization=instance", "ema_decay=0.0")
    result = train(prepared, recipe, tmp_path / "run")
    assert result.epochs == 3
    assert result.stopped_because == f"no better {KEY_METRIC} for 2 epochs"


def test_the_time_limit_ends_a_run(prepared: PreparedSet, tmp_path: Path) -> None:
    result = train(prepared, tiny_recipe("epochs=500", "max_minutes=0.0001"), tmp_path / "run")
    assert (result.epochs, result.stopped_because) == (1, "the limit of 0.0001 minutes is reached")


def test_a_run_ended_by_the_time_limit_within_an_epoch_can_be_finished(prepared: PreparedSet, tmp_path: Path) -> None:
    recipe = tiny_recipe("epochs=500", "max_minutes=0.0001", "batches.size=1")  # the clock is looked at after 4 of 18
    model = train(prepared, recipe, tmp_path / "run").model
    model.unlink()  # as if killed before it was there
    again = train(prepared, recipe, tmp_path / "run", resume=True)
    assert (again.epochs, again.stopped_because) == (1, "the limit of 0.0001 minutes is reached")
    assert [record.epoch for record in read_history(tmp_path / "run")] == [1] and model.is_file()


def test_an_unavailable_device_creates_no_run(prepared: PreparedSet, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown device 'gpu'"):
        train(prepared, recipe, tmp_path / "run", device="gpu")
    assert not (tmp_path / "run").exists()


def test_validation_patients_without_uptake_select_no_weights(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared", tiny_recipe().preparation)
    for pair in prepared.pairs:
        if pair.patient_id in ("P6", "P7"):
            path = prepared.root / "pairs" / pair.id / "pet.npy"
            np.save(path, np.zeros_like(np.load(path)))
    result = train(prepared, tiny_recipe("epochs=2", "patience=1"), tmp_path / "run")
    assert (result.epochs, result.card.epoch) == (2, 2)  # no validation metric exists: the last weights are kept
    stats = json.loads((tmp_path / "run" / "train_stats.json").read_text())
    assert stats["best_metric"] == 0.0 and KEY_METRIC not in stats["eval"]["metrics"]


@pytest.mark.parametrize(("validation", "message"), [("0.0", ", loss 0."), ("0.2", ", body MAE at best ")])
def test_progress_has_the_loss_without_validation_patients(
    prepared: PreparedSet, tmp_path: Path, validation: str, message: str
) -> None:
    reported: list[str] = []
    recipe = tiny_recipe("epochs=2", f"validation={validation}")
    train(prepared, recipe, tmp_path / "run", progress=lambda done, total, what: reported.append(what))
    assert "epoch 1 of 2" in reported  # nothing is known yet
    assert reported[-1].startswith(f"epoch 2 of 2{message}"), reported[-1]
    assert not any("body MAE at best 0.0 %" in what for what in reported)


def test_a_full_disk_ends_the_run_with_advice_and_keeps_finished_epochs(prepared: PreparedSet, tmp_path: Path) -> None:
    recipe, run = tiny_recipe("epochs=3"), tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_up(done: int, total: int, what: str) -> None:
        if done == 6:  # in the second epoch: from now on no file can grow beyond 40 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))

    try:
        with pytest.raises(TrainingError, match="free space"):
            train(prepared, recipe, run, progress=fill_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert train(prepared, recipe, run, resume=True).epochs == 3
    assert [record.epoch for record in read_history(run)] == [1, 2, 3]


def test_training_starts_from_given_weights(shared: PreparedSet, finished: TrainingResult, tmp_path: Path) -> None:
    first = finished.model
    frozen = tiny_recipe("learning_rate=1e-30", "epochs=1")
    second = train(shared, frozen, tmp_path / "second", initial=first).model
    one, two = load_file(first), load_file(second)
    for name in (name for name, _ in load_checkpoint(first)[0].named_parameters()):  # averaging 0.9 w + 0.1 w rounds
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-7)


def test_another_run_is_not_overwritten(shared: PreparedSet, finished: TrainingResult, recipe: Recipe) -> None:
    run, before = finished.model.parent, finished.model.read_bytes()
    with pytest.raises(TrainingError, match="holds a run already; resume that run"):
        train(shared, recipe, run)
    with pytest.raises(TrainingError, match="begun under another recipe"):
        train(shared, tiny_recipe("epochs=3"), run, resume=True)
    assert finished.model.read_bytes() == before


def test_a_nan_loss_ends_with_advice(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is .*; lower optimiser\.learning_rate"):
        train(prepared, tiny_recipe("learning_rate=1e30", "clip_norm=0", "normalization=none"), tmp_path / "run")


def test_arrays_of_another_grid_are_refused(prepared: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="prepare again with this recipe"):
        train(prepared, tiny_recipe("pixel_mm=3.0"), tmp_path / "run")


def test_no_training_patients_is_an_error(tmp_path: Path) -> None:
    only_test = make_prepared(tmp_path / "prepared", tiny_recipe().preparation, patients=("P2", "P3"))
    with pytest.raises(PreparedDataError, match="none of the 2 patients falls on the training side"):
        train(only_test, tiny_recipe(), tmp_path / "run")


def test_without_validation_patients_the_last_weights_are_kept(tmp_path: Path) -> None:
    no_validation = make_prepared(tmp_path / "prepared", tiny_recipe().preparation, patients=("P0", "P1", "P2"))
    result = train(no_validation, tiny_recipe("patience=1", "epochs=3"), tmp_path / "run")
    assert (result.epochs, result.card.epoch) == (3, 3)
    assert read_card(result.model).scores.side == "test"  # type: ignore[union-attr]


def test_the_card_has_the_expected_error_of_the_validation_patients(
    shared: PreparedSet, finished: TrainingResult
) -> None:
    card = finished.card
    assert card.calibration is not None and card.calibration["volumes"] == len(card.training.validation_patients)
    assert card.intervals is not None and card.intervals["patients"] == len(card.training.validation_patients)
    assert Intervals.from_json(card.intervals).interval("voxel", 1.0).sentence.startswith("Too few patients")
    curve = Calibration.from_json(card.calibration)
    sides = split_pairs(shared, card.recipe.split)
    cascade, _ = load_checkpoint(finished.model)
    for pair, indices in sides.validation[:1]:
        arrays = shared.arrays(pair)
        synthetic_suv = synthesize_prepared(cascade, arrays, indices, card.recipe, device=torch.device("cpu"))
        expected = curve.expected_error_suv(synthetic_suv)[arrays.body(list(indices))]
        errors = np.abs(synthetic_suv - arrays.suv_bw(list(indices)))[arrays.body(list(indices))]
        assert expected.mean() == pytest.approx(errors.mean(), rel=0.5)


@pytest.mark.parametrize("setting", ["split.unit=slice", "split.validation=0.0"])
def test_without_validation_patients_the_card_has_no_expected_error(
    prepared: PreparedSet, tmp_path: Path, setting: str
) -> None:
    card = train(prepared, tiny_recipe("epochs=1", setting), tmp_path / "run").card
    assert (card.calibration, card.intervals) == (None, None)


BARE = """
import importlib.abc, sys
class OnlyTheEngine(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pydicom", "SimpleITK", "nibabel", "skimage", "monailabel", "typer", "rich",
                                  "torchmetrics", "pydantic", "matplotlib", "torchvision", "itk"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, OnlyTheEngine())
from pathlib import Path
from lib.learning.recipe import load_recipe
from lib.learning.training import train
from lib.pairing.prepared import PreparedSet
recipe = load_recipe("quantitative", settings=[
    "pixel_mm=2.0", "stages=1", "base_channels=4", "depth=2", "batches.size=4", "epochs=1"])
train(PreparedSet.open(Path(sys.argv[1])), recipe, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_training_works_without_dicom_packages(prepared: PreparedSet, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE, str(prepared.root), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "run" / MODEL_FILE).epoch == 1
