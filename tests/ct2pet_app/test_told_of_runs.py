"""What is told of training runs: every epoch, in the middle, after the end, after a restart; never too many."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app import told_of_runs
from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError
from ct2pet_app.told_of_runs import describe_training, thinned
from lib.learning.progress import KEY_METRIC, EpochRecord, read_history

MakeApp = Callable[..., CT2PETApp]
TINY = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=3;validation=0.3;test=0.0;workers=0"


@pytest.fixture
def app(make_app: MakeApp) -> CT2PETApp:
    return make_app(set=TINY, width="2")


def epoch(number: int) -> EpochRecord:
    return EpochRecord(number, 1.0 / number, 1e-3, 0.5, {KEY_METRIC: 0.01 * number}, {"train": {"loss": 0.5}})


def write_run(app: CT2PETApp, model: str, name: str, epochs: int) -> Path:
    run = app.models.runs(model) / name
    run.mkdir(parents=True)
    lines = [{**vars(epoch(number)), "metrics": dict(epoch(number).metrics)} for number in range(1, epochs + 1)]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_before_the_first_training_there_are_no_epochs(app: CT2PETApp) -> None:
    assert describe_training(app.models) == {"model": None, "run": None, "epochs": []}
    assert describe_training(app.models, "unet")["model"] is None
    with pytest.raises(NotFoundError, match="did you mean unet"):
        describe_training(app.models, "unett")


def test_every_epoch_of_a_training_is_told_with_its_verdict_and_again_by_a_server_started_anew(
    app: CT2PETApp, make_app: MakeApp
) -> None:
    task: Any = app._trainers["unet"]
    task({"model": "unet"}, app.datastore())
    told = describe_training(app.models)
    (run,) = app.models.runs("unet").iterdir()
    assert (told["model"], told["run"], told["epoch"], told["key_metric"]) == ("unet", run.name, 3, KEY_METRIC)
    recorded = read_history(run)
    assert told["epochs"] == [{"epoch": one.epoch, "loss": one.loss, "metrics": dict(one.metrics)} for one in recorded]
    assert [one["epoch"] for one in told["epochs"]] == [1, 2, 3]
    assert KEY_METRIC in told["epochs"][0]["metrics"]
    assert told["verdict"]
    assert describe_training(make_app(set=TINY, width="2").models) == told


def test_a_run_in_the_middle_is_told_as_far_as_it_is_and_the_newest_of_all_models(app: CT2PETApp) -> None:
    write_run(app, "cascade3", "20260101-000000", 5)
    write_run(app, "unet", "20260102-000000", 2)
    told = describe_training(app.models)
    assert (told["model"], [one["epoch"] for one in told["epochs"]]) == ("unet", [1, 2])
    assert told["epochs"][1] == {"epoch": 2, "loss": 0.5, "metrics": {KEY_METRIC: 0.02}}
    assert "verdict" not in told
    assert len(describe_training(app.models, "cascade3")["epochs"]) == 5


def test_of_a_very_long_run_some_epochs_are_told_evenly_with_the_first_and_the_last(
    app: CT2PETApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [one.epoch for one in thinned([epoch(n) for n in range(1, 12)], 6)] == [1, 3, 5, 7, 9, 11]
    assert [one.epoch for one in thinned([epoch(n) for n in range(1, 4)], 3)] == [1, 2, 3]
    write_run(app, "unet", "20260101-000000", 30_000)
    told = describe_training(app.models)["epochs"]
    assert (len(told), told[0]["epoch"], told[-1]["epoch"]) == (told_of_runs.MAX_EPOCHS, 1, 30_000)
    steps = {after["epoch"] - before["epoch"] for before, after in itertools.pairwise(told)}
    assert steps <= {14, 15, 16}
    assert len(json.dumps(told)) < 400_000
