"""Training in this process: from studies to a published model, resumed where it was cut off."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ct2pet_app.app import CT2PETApp
from ct2pet_app.server.tasks.progress import log_percent
from ct2pet_app.training import task as train_module
from ct2pet_app.training.task import CascadeTrainTask
from lib.errors import InputError, OutputError, StudiesError
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.conftest import SMALL

MakeApp = Callable[..., CT2PETApp]
TINY = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=1;validation=0.0;test=0.0;workers=0"

REPORT = "0" * 32


@pytest.fixture
def app(make_app: MakeApp) -> CT2PETApp:
    return make_app(set=TINY, width="2")


def task_of(app: CT2PETApp, model: str = "unet") -> CascadeTrainTask:
    task = app._trainers[model]
    assert isinstance(task, CascadeTrainTask)
    return task


def run(app: CT2PETApp, **params: Any) -> dict[str, Any]:
    return task_of(app)({"model": "unet", **params}, app.datastore())


def test_a_training_publishes_what_inference_uses(app: CT2PETApp, ct_uids: tuple[str, ...]) -> None:
    assert task_of(app).stats() == {}
    stats = run(app, publish="always")
    assert (stats["epoch"], stats["total_epochs"], stats["published"], stats["version"]) == (1, 1, True, 1)
    assert isinstance(stats["best_metric"], float)
    params = app.infer({"model": "unet", "image": ct_uids[0]})["params"]
    assert params["model"]["card"]["name"] == "unet"
    assert params["seen_in_training"] is True


@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")  # MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_training_is_tracked_on_request(app: CT2PETApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    stats = run(app, tracking="mlflow")
    (folder,) = runs_of(app)
    assert json.loads((folder / "tracking.json").read_text())["experiment"] == "unet"
    assert list(folder.glob("mlflow/mlruns/*/artifacts/model_card.json"))
    assert (
        "Not compared with the baselines: there is no patient that it was not trained on" in stats["verdict"]
    )  # no patient was held out


def test_arrays_are_prepared_once(app: CT2PETApp, caplog: pytest.LogCaptureFixture) -> None:
    run(app)
    (index,) = (app.models.folder / "prepared").glob("*/index.json")
    pair = next((index.parent / "pairs").glob("*/ct.npy"))
    before = pair.stat().st_mtime_ns
    run(app, max_epochs=2)
    assert pair.stat().st_mtime_ns == before


def runs_of(app: CT2PETApp) -> list[Path]:
    return sorted(app.models.runs("unet").iterdir())


@pytest.mark.parametrize("step", ["keep", "judged", "serve"])
def test_a_run_that_was_cut_off_while_its_model_was_published_goes_on(
    app: CT2PETApp, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    done = getattr(app.models, step)

    def do_and_die(*args: Any, **named: Any) -> None:
        done(*args, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(app.models, step, do_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(app, publish="always")
    stats = run(app, publish="always")
    assert (len(runs_of(app)), stats["published"], stats["version"]) == (1, True, 1)
    assert [version.number for version in app.models.versions("unet")] == [1]
    assert [line.action for line in app.models.history("unet")] == ["published"]


def test_a_run_of_another_recipe_or_without_resume_is_a_new_one(app: CT2PETApp) -> None:
    run(app)
    run(app)  # the first is finished, so this is another
    run(app, max_epochs=2)
    run(app, resume=False)
    assert len(runs_of(app)) == 4


def test_a_training_starts_from_the_served_version_unless_disabled(app: CT2PETApp, tmp_path: Path) -> None:
    assert [run(app, publish="always", **more)["version"] for more in ({}, {}, {"pretrained": False})] == [1, 2, 3]
    assert [version.parent for version in app.models.versions("unet")] == [None, 1, None]
    app.models.roll_back("unet", 1)
    assert run(app)["version"] == 4
    assert app.models.version("unet", 4).parent == 1


def test_a_run_that_began_from_what_is_not_served_any_more_is_left_alone(
    app: CT2PETApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    run(app, publish="always")
    run(app, publish="always")
    with monkeypatch.context() as patched:
        patched.setattr(train_module, "train", cut_off)  # before its first epoch
        with pytest.raises(KeyboardInterrupt):
            run(app, max_epochs=2)
    app.models.roll_back("unet")
    assert run(app, max_epochs=2)["version"] == 3
    assert (app.models.version("unet", 3).parent, len(runs_of(app))) == (1, 4)


def test_a_full_disk_publishes_nothing_and_the_run_goes_on(app: CT2PETApp, monkeypatch: pytest.MonkeyPatch) -> None:
    run(app, publish="always")
    before = app.models.published("unet")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OutputError, match=r"cannot be kept .*No space left.*nothing was changed; free space"):
            run(app, publish="always", max_epochs=2)
    assert (app.models.published("unet"), len(app.models.versions("unet"))) == (before, 1)
    assert run(app, publish="always", max_epochs=2)["version"] == 2
    assert len(runs_of(app)) == 2


def test_invalid_parameters_and_missing_pairs_are_found_before_a_process_starts(
    make_app: MakeApp, phantoms: Path
) -> None:
    with pytest.raises(InputError, match="did you mean max_epochs"):
        make_app().check_training("unet", {"max_epoch": 1})
    with pytest.raises(InputError, match="no model 'cascade9' on this server"):
        make_app().check_training("cascade9", {})
    with pytest.raises(StudiesError, match="nothing to train on: 1 CT series, none with a PET"):
        make_app(studies=phantoms / "PHANTOM_0001" / "CT").check_training("unet", {})


def test_a_failed_training_ends_the_child_with_one_sentence(
    make_app: MakeApp, phantoms: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(studies=phantoms / "PHANTOM_0001" / "CT")
    with pytest.raises(SystemExit) as ended:
        app.train({"model": "unet", "report": REPORT})
    assert ended.value.code == 1
    assert caplog.messages[-1].startswith("unet was not trained: nothing to train on")
    reported = json.loads((app.models.folder / "tasks" / f"{REPORT}.json").read_text())["error"]
    assert (reported["code"], reported["params"]) == ("no_pairs", {"images": 1})
    assert reported["detail"].endswith("; GET /ct2pet/series gives the reason for each series")


def test_a_pair_that_cannot_be_prepared_is_left_out(
    make_app: MakeApp, phantoms: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(phantoms / "PHANTOM_0002", studies / "good")
    write_phantoms(studies / "offset", patients=1, settings=replace(SMALL, pet_slice_offset_mm=1.0))
    app = make_app(studies=studies, set=f"{TINY};slices=match", width="2")
    assert run(app, publish="always")["published"] is True
    assert any("is left out: no PET slice is within 0.2 mm" in message for message in caplog.messages)


def test_percentages_are_logged_sparingly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tell = log_percent("training unet")
    for step in range(1, 1001):
        tell(step, 1000, "epoch 1 of 1")
    assert caplog.messages == ["training unet: 0 % (epoch 1 of 1)", "training unet: 100 % (epoch 1 of 1)"]


def test_statistics_survive_a_run_that_was_killed_while_it_began(app: CT2PETApp) -> None:
    (app.models.runs("unet") / "20260101-000000").mkdir(parents=True)
    assert task_of(app).stats() == {"run": "20260101-000000"}
    json.dumps(task_of(app).stats())
