"""Several servers with one models folder: each sees what another published, and none loses or damages anything."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from ct2pet_app.app import CT2PETApp
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.server.tasks.progress import STALE_AFTER_S, remove_unknown_reports
from ct2pet_app.training import promotion
from ct2pet_app.training.promotion import publish_if_better
from lib.files import file_checksum
from lib.learning.run_lock import LOCK_FILE
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.training.test_task import TINY, run, runs_of

MakeApp = Callable[..., CT2PETApp]


@pytest.fixture
def servers(make_app: MakeApp) -> tuple[ModelRegistry, ModelRegistry]:
    """The registries of two servers with one models folder."""
    return make_app().models, make_app().models


def test_a_model_that_one_server_publishes_is_used_by_the_other(
    servers: tuple[ModelRegistry, ModelRegistry], tmp_path: Path
) -> None:
    first, second = servers
    for suv in (1.0, 2.0):
        published = first.publish("unet", save_constant_model(tmp_path / "new.safetensors", suv, stages=1))
        assert second.synthesizer("unet").checksum == published.checksum
    second.roll_back("unet")
    assert first.find("unet").version == 1
    assert [line.action for line in first.history("unet")] == ["uploaded", "uploaded", "rolled back"]


def test_uploads_to_two_servers_at_once_all_become_versions(
    servers: tuple[ModelRegistry, ModelRegistry], tmp_path: Path
) -> None:
    def publish(number: int) -> None:
        model = save_constant_model(tmp_path / f"{number}.safetensors", number + 1.0, stages=1)
        servers[number % 2].publish("unet", model)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = servers
    assert [version.number for version in first.versions("unet")] == list(range(1, 9))
    assert len({version.checksum for version in first.versions("unet")}) == 8
    lines = first.history("unet")
    assert sorted(line.version for line in lines) == list(range(1, 9))
    assert {line.action for line in lines} == {"uploaded"}  # each was recorded when it was served
    assert first.find("unet").version == second.find("unet").version == lines[-1].version


def test_a_training_that_was_compared_with_another_servers_former_model_is_compared_again(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, other = make_app(), make_app().models
    other.publish("unet", save_constant_model(tmp_path / "1.safetensors", 1.0, stages=1))
    opponents: list[int | None] = []
    judge = promotion.judge

    def judge_while_the_other_serves(name, version, champion, *arguments, **options):  # type: ignore[no-untyped-def]
        opponents.append(champion.version)
        verdict = judge(name, version, champion, *arguments, **options)
        if len(opponents) == 1:
            other.publish("unet", save_constant_model(tmp_path / "3.safetensors", 3.0, stages=1))
        return verdict

    monkeypatch.setattr(promotion, "judge", judge_while_the_other_serves)
    candidate = save_constant_model(tmp_path / "2.safetensors", 2.0, stages=1)
    pairs = app.studies_datastore.training_pairs()
    publish_if_better("unet", candidate, app.models, pairs, origin="training run 1", rule="always", device="cpu")
    assert opponents == [1, 3]
    assert [line.version for line in app.models.history("unet")] == [1, 3, 2]


def test_a_run_that_another_server_is_training_is_left_to_it(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(set=TINY, width="2")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ct2pet_app.training.task.publish_if_better", die)
        with pytest.raises(KeyboardInterrupt):
            run(app)
    (unfinished,) = runs_of(app)
    with FileLock(unfinished / LOCK_FILE):
        run(app)
    assert len(runs_of(app)) == 2 and not (unfinished / "verdict.json").exists()
    run(app)
    assert len(runs_of(app)) == 2 and (unfinished / "verdict.json").exists()


def test_the_report_of_another_servers_task_stays_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    running, former = (tmp_path / "tasks" / f"{digit * 32}.json" for digit in "ab")
    for report in (running, former):
        report.write_text("{}")
    old = time.time() - STALE_AFTER_S - 60
    os.utime(former, (old, old))
    remove_unknown_reports(tmp_path, [])
    assert running.exists() and not former.exists()


@pytest.mark.slow
def test_two_servers_that_train_at_once_lose_no_version(make_app: MakeApp) -> None:
    servers = [make_app(models="unet", set=f"{TINY};seed={number}", width="2") for number in range(2)]
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda app: run(app, publish="always"), servers))
    assert all(outcome["published"] for outcome in outcomes)
    models = servers[0].models
    versions = models.versions("unet")
    assert [version.number for version in versions] == [1, 2]
    assert all(file_checksum(version.checkpoint) == version.checksum for version in versions)
    verdicts = [json.loads((folder / "verdict.json").read_text()) for folder in runs_of(servers[0])]
    assert sorted(verdict["version"] for verdict in verdicts) == [1, 2]
    lines = models.history("unet")
    assert sorted((line.version, line.action) for line in lines) == [(1, "published"), (2, "published")]
    assert models.find("unet").version == servers[1].models.find("unet").version == lines[-1].version
    (index,) = models.folder.glob("prepared/*/index.json")
    assert len(json.loads(index.read_text())["pairs"]) == 2
