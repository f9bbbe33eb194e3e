"""The status of training runs: epochs of running and finished ones, also after a restart; never too many."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.errors import NotFoundError
from ct2pet_app.training import status
from ct2pet_app.training.status import describe_training, thinned
from lib.learning.tracking.progress import KEY_METRIC, EpochRecord, read_history

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


def test_all_epochs_and_the_verdict_are_reported_also_after_a_restart(app: CT2PETApp, make_app: MakeApp) -> None:
    task: Any = app._trainers["unet"]
    task({"model": "unet"}, app.datastore())
    reported = describe_training(app.models)
    (run,) = app.models.runs("unet").iterdir()
    assert (reported["model"], reported["run"], reported["epoch"], reported["key_metric"]) == (
        "unet",
        run.name,
        3,
        KEY_METRIC,
    )
    recorded = read_history(run)
    assert reported["epochs"] == [
        {"epoch": one.epoch, "loss": one.loss, "metrics": dict(one.metrics)} for one in recorded
    ]
    assert [one["epoch"] for one in reported["epochs"]] == [1, 2, 3]
    assert KEY_METRIC in reported["epochs"][0]["metrics"]
    assert reported["verdict"]
    assert describe_training(make_app(set=TINY, width="2").models) == reported


def test_an_unfinished_run_is_reported_and_the_newest_one_by_default(app: CT2PETApp) -> None:
    write_run(app, "cascade3", "20260101-000000", 5)
    write_run(app, "unet", "20260102-000000", 2)
    reported = describe_training(app.models)
    assert (reported["model"], [one["epoch"] for one in reported["epochs"]]) == ("unet", [1, 2])
    assert reported["epochs"][1] == {"epoch": 2, "loss": 0.5, "metrics": {KEY_METRIC: 0.02}}
    assert "verdict" not in reported
    assert len(describe_training(app.models, "cascade3")["epochs"]) == 5


def test_a_very_long_run_reports_evenly_spaced_epochs_with_the_first_and_the_last(
    app: CT2PETApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [one.epoch for one in thinned([epoch(n) for n in range(1, 12)], 6)] == [1, 3, 5, 7, 9, 11]
    assert [one.epoch for one in thinned([epoch(n) for n in range(1, 4)], 3)] == [1, 2, 3]
    write_run(app, "unet", "20260101-000000", 30_000)
    reported = describe_training(app.models)["epochs"]
    assert (len(reported), reported[0]["epoch"], reported[-1]["epoch"]) == (status.MAX_EPOCHS, 1, 30_000)
    steps = {after["epoch"] - before["epoch"] for before, after in itertools.pairwise(reported)}
    assert steps <= {14, 15, 16}
    assert len(json.dumps(reported)) < 400_000
