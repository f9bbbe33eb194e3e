"""Runs in MLflow and TensorBoard, read with their own readers; training continues without the server."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lib.errors import InputError, TrainingError
from lib.learning.model_card.card import ModelCard
from lib.learning.tracking.mlflow_logger import ENVIRONMENT, flatten
from lib.learning.tracking.options import Store, Tracking, parse_tracking, store_of
from lib.learning.tracking.progress import EpochRecord, read_history, scalars
from lib.learning.training import TrainingResult, train
from lib.pairing.prepared import PreparedSet
from tests.learning.conftest import make_prepared, tiny_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),  # MLflow's own use of SQLAlchemy
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # MLflow keeps its database open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
UNREACHABLE = "http://127.0.0.1:9"  # the discard port: refused at once


def shorten_timeouts(patch: pytest.MonkeyPatch) -> None:
    """Set the variables of a training process, and no other store."""
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in ENVIRONMENT.items():
        patch.setenv(name, value)


@pytest.fixture(autouse=True)
def short_timeouts_and_no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_timeouts(monkeypatch)


@dataclass(frozen=True)
class TrackedRun:
    """A finished run that is tracked in its own folder."""

    folder: Path
    result: TrainingResult


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> TrackedRun:
    """A run of patients with names that must not reach the store."""
    recipe, root = tiny_recipe("record_slices=4"), tmp_path_factory.mktemp("tracked")
    names = tuple(f"ZZTOP^{number}" for number in range(10))
    prepared = make_prepared(root / "prepared", recipe.preparation, patients=names)
    with pytest.MonkeyPatch.context() as patch:
        shorten_timeouts(patch)
        result = train(prepared, recipe, root / "run", tracking=Tracking(experiment="limbs"))
    return TrackedRun(root / "run", result)


@pytest.fixture(scope="module")
def store(tracked: TrackedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of another run, shared by the tests: creating one takes seconds."""
    store = tmp_path_factory.mktemp("store")
    shutil.copy(tracked.folder / "mlflow" / "mlflow.db", store)
    return store


def client_of(folder: Path) -> Any:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def run_of(run: Path, client: Any) -> Any:
    return client.get_run(json.loads((run / "tracking.json").read_text())["run_id"])


def epochs_in(client: Any, run_id: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run_id, "train/loss")]


# -- a run in MLflow ---------------------------------------------------------------------------------------------------


def test_a_finished_run_has_settings_epochs_scores_and_card_but_no_patient_id(tracked: TrackedRun) -> None:
    run, result = tracked.folder, tracked.result
    client = client_of(run / "mlflow")
    found = run_of(run, client)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "quantitative-2")
    assert client.get_experiment(found.info.experiment_id).name == "limbs"
    assert found.data.params["optimiser.learning_rate"] == "0.005" and found.data.params["network.stages"] == "2"
    for record in read_history(run):
        for name, value in scalars(record).items():
            (logged,) = [m for m in client.get_metric_history(found.info.run_id, name) if m.step == record.epoch]
            assert logged.value == pytest.approx(value)
    assert result.card.scores is not None
    assert found.data.metrics["final/hu_median/mae_suv_body"] == result.card.scores.table["hu_median"]["mae_suv_body"]
    assert found.data.tags["standing"] == result.card.standing.sentence
    (card,) = run.glob("mlflow/mlruns/*/artifacts/model_card.json")
    assert ModelCard.from_json(card.read_text()) == result.card
    written = [path.read_bytes() for path in (run / "mlflow").rglob("*") if path.is_file()]
    assert len(written) >= 2 and not [content for content in written if b"ZZTOP" in content]


def test_a_resumed_run_continues_the_same_mlflow_run(prepared: PreparedSet, store: Path, tmp_path: Path) -> None:
    run, tracking, recipe = tmp_path / "run", Tracking(str(store), "resumed"), tiny_recipe("epochs=4")

    def cut_off(done: int, total: int, what: str) -> None:
        if done == 10:  # 4 steps an epoch: in the third
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, recipe, run, tracking=tracking, progress=cut_off)
    client = client_of(store)
    first = run_of(run, client).info
    assert (first.status, epochs_in(client, first.run_id)) == ("KILLED", [1, 2])
    train(prepared, recipe, run, tracking=tracking, resume=True)
    again = run_of(run, client).info
    assert (again.run_id, again.status) == (first.run_id, "FINISHED")
    assert epochs_in(client, again.run_id) == [1, 2, 3, 4]
    assert len(client.search_runs([again.experiment_id])) == 1


def test_a_failed_run_is_marked(prepared: PreparedSet, store: Path, tmp_path: Path) -> None:
    wild = tiny_recipe("learning_rate=1e30", "clip_norm=0", "normalization=none")
    with pytest.raises(TrainingError, match="the loss is"):
        train(prepared, wild, tmp_path / "run", tracking=Tracking(str(store), "failed", run_name="wild"))
    found = run_of(tmp_path / "run", client_of(store))
    assert (found.info.status, found.info.run_name) == ("FAILED", "wild")


def test_an_unreachable_server_is_reported_and_receives_everything_later(
    prepared: PreparedSet, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, recipe = tmp_path / "run", tiny_recipe("epochs=3")
    result = train(prepared, recipe, run, tracking=Tracking(UNREACHABLE.replace("//", "//me:secret@")))
    assert result.epochs == 3 and result.model.is_file()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    reported = [message for message in warned if message.startswith(f"MLflow at {UNREACHABLE} is not available")]
    assert len(reported) == 2  # at the beginning and at the end, not after every epoch
    assert "training continues" in reported[0] and not [message for message in warned if "secret" in message]
    assert not (run / "tracking.json").exists()
    train(prepared, recipe, run, tracking=Tracking(str(store), "late"), resume=True)  # the finished run
    client = client_of(store)
    found = run_of(run, client)
    assert (found.info.status, epochs_in(client, found.info.run_id)) == ("FINISHED", [1, 2, 3])
    assert found.data.metrics["final/model/mae_suv_body"] == result.card.scores.table["model"]["mae_suv_body"]  # type: ignore[union-attr]


def test_a_run_that_was_deleted_from_the_store_is_created_again(
    prepared: PreparedSet, store: Path, tmp_path: Path
) -> None:
    run, recipe, tracking = tmp_path / "run", tiny_recipe(), Tracking(str(store), "deleted")
    train(prepared, recipe, run, tracking=tracking)
    record = json.loads((run / "tracking.json").read_text())
    (run / "tracking.json").write_text(json.dumps({**record, "run_id": "0" * 32}))
    train(prepared, recipe, run, tracking=tracking, resume=True)
    assert epochs_in(client_of(store), run_of(run, client_of(store)).info.run_id) == [1, 2]


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tracked"),
    [(None, False), ("", False), ("None", False), ("none", False), ("mlflow", True), ("MLflow", True)],
)
def test_monai_labels_values_are_accepted(name: str | None, tracked: bool) -> None:
    assert parse_tracking(name, uri="u", experiment="e") == (Tracking("u", "e") if tracked else None)
    assert parse_tracking("mlflow") == Tracking("", "ct2pet", "")


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(InputError, match="tracking 'wandb': expected mlflow or none"):
        parse_tracking("wandb")


def test_the_error_without_mlflow_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mlflow is not installed; install it, or track none"):
        parse_tracking("mlflow")
    assert parse_tracking("none") is None


@pytest.mark.parametrize(
    ("uri", "store"),
    [
        ("", Store("sqlite:////runs/a/mlflow/mlflow.db", Path("/runs/a/mlflow/mlruns"), "the run's own folder")),
        (
            "/data/all",
            Store("sqlite:////data/all/mlflow.db", Path("/data/all/mlruns"), "sqlite:////data/all/mlflow.db"),
        ),
        ("file:///x", Store("sqlite:////x/mlflow.db", Path("/x/mlruns"), "sqlite:////x/mlflow.db")),
        ("sqlite:////d/m.db", Store("sqlite:////d/m.db", Path("/d/mlruns"), "sqlite:////d/m.db")),
        ("http://host:5000", Store("http://host:5000", None, "http://host:5000")),
        ("https://me:pass@host/x", Store("https://me:pass@host/x", None, "https://host/x")),
    ],
)
def test_the_store_of_a_uri(uri: str, store: Store) -> None:
    assert store_of(uri, Path("/runs/a")) == store


def test_the_environment_variable_is_the_default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert (store_of("", Path("/run")).uri, store_of("http://other", Path("/run")).uri) == (
        "http://host",
        "http://other",
    )


def test_settings_are_flattened() -> None:
    assert flatten({"a": 1, "b": {"c": None, "d": {"e": (1, 2)}}}) == {"a": "1", "b.c": "None", "b.d.e": "(1, 2)"}


# -- the process -------------------------------------------------------------------------------------------------------


def global_state() -> tuple[dict[str, str], dict[str, int]]:
    levels = {name: logging.getLogger(name).level for name in ("", "mlflow", "alembic", "lib")}
    return {name: value for name, value in os.environ.items() if name.startswith("MLFLOW")}, levels


def test_the_engine_changes_no_global_state(prepared: PreparedSet, store: Path, tmp_path: Path) -> None:
    logging.getLogger("alembic").setLevel(logging.DEBUG)
    before = global_state()
    train(prepared, tiny_recipe("epochs=1"), tmp_path / "run", tracking=Tracking(str(store), "library"))
    assert global_state() == before


CONFIGURE = """
import logging, os
import mlflow
from mlflow.telemetry import get_telemetry_client, set_telemetry_client
from lib.learning.tracking import mlflow_logger
print(get_telemetry_client() is not None, "MLFLOW_DISABLE_TELEMETRY" in os.environ)
mlflow_logger.configure_mlflow_process()
print(get_telemetry_client() is None, os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], logging.getLogger("alembic").level)
"""


def test_configuring_the_process_turns_telemetry_off_even_after_mlflow_was_imported(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}
    child = subprocess.run(
        [sys.executable, "-c", CONFIGURE], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout.splitlines() == ["True False", "True 3 30"]  # a variable that was set is kept


# -- TensorBoard -------------------------------------------------------------------------------------------------------


def test_tensorboard_is_always_written(prepared: PreparedSet, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(prepared, tiny_recipe("record_slices=4"), run)
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    for record in read_history(run):
        for name, value in scalars(record).items():
            (shown,) = [event for event in board.Scalars(name) if event.step == record.epoch]
            assert shown.value == pytest.approx(value, rel=1e-5)
    assert {"train/loss", "validation/mae_suv_body", "recorded_train/loss", "recorded_test/ssim"} <= set(
        board.Tags()["scalars"]
    )


def test_undefined_metrics_are_omitted() -> None:
    record = EpochRecord(1, 0.5, 0.1, 2.0, {"mae": 1.0}, {"test": {"psnr_db": None, "ssim": 0.5}})
    assert scalars(record) == {
        "train/loss": 0.5, "train/learning_rate": 0.1, "train/seconds": 2.0, "validation/mae": 1.0,
        "recorded_test/ssim": 0.5,
    }  # fmt: skip
