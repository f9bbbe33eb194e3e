"""The curve of a training that somebody else began: whole in the middle, after the end, and after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.training import Training
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import TrainingWatch

from lib.learning.tracking.progress import KEY_METRIC, read_history
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.server.processes import RunningServer, running_server, stop_process
from tests.slicer.client.conftest import drain_until, finished

pytestmark = [pytest.mark.server, pytest.mark.slow]

EPOCHS = 40
SMALL = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)
# two of the patients validate, so that there is a validation figure
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none;patience=0;validation=0.3;test=0.0;workers=0"
CONF = {"models": "cascade3,unet", "width": "2", "set": TINY}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    write_phantoms(folder / "studies", patients=4, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    """A server that trains already, begun without a panel: three epochs are done, and it goes on."""
    with running_server("ct2pet_app", folder / "studies", folder, **CONF) as running:
        assert running.json("/ct2pet/training")["epochs"] == []
        assert Client(running.url).training() == Training()
        answer = running.request("POST", "/train/unet", json={"max_epochs": EPOCHS})
        assert answer.status_code == 200, answer.text
        deadline = time.monotonic() + 150
        while len(running.json("/ct2pet/training?model=unet")["epochs"]) < 3:
            assert time.monotonic() < deadline, running.json("/train/")
            time.sleep(0.1)
        yield running


@pytest.fixture(scope="module")
def opened_in_the_middle(server: RunningServer) -> tuple[TrainingWatch, list[Training]]:
    """A watch that began then, when the training is over, and all that it told."""
    watch = TrainingWatch(Client(server.url), every_s=0.1)
    return watch, finished(watch, timeout_s=200)


def on_disk(folder: Path) -> list[tuple[int, float, float]]:
    (run,) = (folder / "models" / "unet" / "runs").iterdir()
    return [(record.epoch, record.loss, record.metrics[KEY_METRIC]) for record in read_history(run)]


def test_the_first_look_finds_the_epochs_before_it(
    folder: Path, opened_in_the_middle: tuple[TrainingWatch, list[Training]]
) -> None:
    watch, come = opened_in_the_middle
    first, last = come[0], come[-1]
    assert (watch.state, watch.sentence) == (State.DONE, "")
    assert first.is_under_way
    assert [point.epoch for point in first.curve[:3]] == [1, 2, 3]
    assert len(first.curve) < EPOCHS
    assert (last.state, last.key_metric) == ("DONE", KEY_METRIC)
    assert last.curve == watch.curve
    assert [(point.epoch, point.loss, point.metric) for point in last.curve] == on_disk(folder)
    assert [point.epoch for point in last.curve] == list(range(1, EPOCHS + 1))
    best = max(last.curve, key=lambda point: point.metric or -1e9)
    assert (last.best, last.best_epoch) == (best.metric, best.epoch)  # below 0, too, where the training is so short


def test_a_panel_that_is_opened_after_the_end_shows_the_same(
    server: RunningServer, opened_in_the_middle: tuple[TrainingWatch, list[Training]]
) -> None:
    again = TrainingWatch(Client(server.url))
    finished(again)
    assert again.training == opened_in_the_middle[0].training


def test_so_does_one_after_the_server_was_killed_and_started_anew(
    folder: Path, server: RunningServer, opened_in_the_middle: tuple[TrainingWatch, list[Training]]
) -> None:
    before = opened_in_the_middle[0].training
    assert before is not None
    stop_process(server.process)
    with running_server("ct2pet_app", folder / "studies", folder, **CONF) as anew:
        assert anew.request("GET", "/train/").status_code == 404  # MONAI Label has forgotten it
        told = Client(anew.url).training()
        assert (told.model, told.state, told.curve) == ("unet", "DONE", before.curve)
        assert (told.verdict, told.version, told.published) == (before.verdict, before.version, before.published)
        # the next one begins with an empty curve, not with this one's
        anew.request("POST", "/train/unet", json={"max_epochs": 100_000})
        watch = TrainingWatch(Client(anew.url), every_s=0.1)
        watch.start()
        come = drain_until(watch, lambda: len(watch.curve) >= 2, timeout_s=150)
        assert all(len(one.curve) < EPOCHS for one in come)
        anew.request("DELETE", "/train/")
        drain_until(watch, lambda: watch.state.is_over)
        assert watch.training is not None
        assert (watch.training.state, [point.epoch for point in watch.curve[:2]]) == ("STOPPED", [1, 2])
