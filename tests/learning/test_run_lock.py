"""One training in the folder of a run at a time; the networks of a cross-validated one are shared out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock

from lib.errors import TrainingError
from lib.learning import member_processes
from lib.learning.checkpoint import load_checkpoint
from lib.learning.cross_validation.training import train_cross_validated
from lib.learning.run_lock import LOCK_FILE, hold_run, is_in_use
from lib.learning.tracking.progress import read_history
from lib.learning.training import train
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import tiny_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:ignite")
TINY_NETWORK = ("stages=1", "epochs=1", "precision=float32")
FOLDS = 2


def test_a_run_is_in_use_while_it_is_held(tmp_path: Path) -> None:
    assert not is_in_use(tmp_path)
    with hold_run(tmp_path):
        assert is_in_use(tmp_path)
    assert not is_in_use(tmp_path)


def test_a_folder_that_a_refused_training_made_is_removed_again(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), hold_run(tmp_path / "run"):
        raise TrainingError("refused")
    assert not (tmp_path / "run").exists()
    with hold_run(tmp_path / "run"):
        (tmp_path / "run" / "recipe.json").write_text("{}")
    assert (tmp_path / "run" / "recipe.json").is_file()


def test_a_second_training_in_a_folder_is_refused_and_changes_nothing(prepared: PreparedSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with hold_run(run), pytest.raises(TrainingError, match="run is used by another training; wait until it") as raised:
        train(prepared, tiny_recipe(*TINY_NETWORK), run, resume=True)
    assert raised.value.code == "run_in_use"
    assert [path.name for path in run.iterdir()] == [LOCK_FILE]


def test_a_network_that_another_machine_trains_is_left_to_it_and_taken_over_if_it_stops(
    prepared: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recipe = tmp_path / "run", tiny_recipe(*TINY_NETWORK)
    elsewhere = FileLock(run / "folds" / "0" / LOCK_FILE)
    Path(elsewhere.lock_file).parent.mkdir(parents=True)
    elsewhere.acquire()
    finished: list[list[str]] = []

    def stop_elsewhere(_: float) -> None:
        finished.append(sorted(path.parent.name for path in run.glob("folds/*/model.safetensors")))
        elsewhere.release()

    monkeypatch.setattr(member_processes, "time", SimpleNamespace(sleep=stop_elsewhere))  # only what waits here
    shared = train_cross_validated(prepared, recipe, run, folds=FOLDS, resume=True, device="cpu")
    assert finished == [["1"]]
    alone = train_cross_validated(prepared, recipe, tmp_path / "alone", folds=FOLDS, device="cpu")
    weights, expected = (load_checkpoint(result.model)[0].state_dict() for result in (shared, alone))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    assert shared.card.scores == alone.card.scores


def test_a_run_is_resumed_by_another_number_of_processes(prepared: PreparedSet, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tiny_recipe(*TINY_NETWORK, "epochs=3", "batches.size=5")

    def stop(done: int, total: int, what: str) -> None:
        if what.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, recipe, run, progress=stop)
    (state,) = run.glob("resume_*.pt")
    saved = torch.load(state, weights_only=True)
    # 18 slices are 3 batches of 5 in one process; as two processes leave it: 4 batches of 2 each
    torch.save({**saved, "trainer": {**saved["trainer"], "epoch_length": 4, "iteration": 4}}, state)
    steps: list[tuple[int, int]] = []

    def note(done: int, total: int, what: str) -> None:
        steps.append((done, total))

    train(prepared, recipe, run, resume=True, progress=note)
    assert steps == [(step, 9) for step in range(4, 10)]
    assert [record.epoch for record in read_history(run)] == [1, 2, 3]
