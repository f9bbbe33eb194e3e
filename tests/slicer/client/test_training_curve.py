"""The curve of another client's training is complete during it, after its end, and after a restart of the server."""

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
    """Run a server with an active training, started without the client, of which three epochs are finished."""
    with running_server("ct2pet_app", folder / "studies", folder, **CONF) as running:
        assert running.json("/ct2pet/training")["epochs"] == []
        assert Client(running.url).training() == Training()
        response = running.request("POST", "/train/unet", json={"max_epochs": EPOCHS})
        assert response.status_code == 200, response.text
        deadline = time.monotonic() + 150
        while len(running.json("/ct2pet/training?model=unet")["epochs"]) < 3:
            assert time.monotonic() < deadline, running.json("/train/")
            time.sleep(0.1)
        yield running


@pytest.fixture(scope="module")
def watch_of_active_training(server: RunningServer) -> tuple[TrainingWatch, list[Training]]:
    """Return a watch that was started during the training, after its end, and its events."""
    watch = TrainingWatch(Client(server.url), interval_s=0.1)
    return watch, finished(watch, timeout_s=200)


def on_disk(folder: Path) -> list[tuple[int, float, float]]:
    (run,) = (folder / "models" / "unet" / "runs").iterdir()
    return [(record.epoch, record.loss, record.metrics[KEY_METRIC]) for record in read_history(run)]


def test_first_poll_includes_the_epochs_before_it(
    folder: Path, watch_of_active_training: tuple[TrainingWatch, list[Training]]
) -> None:
    watch, events = watch_of_active_training
    first, last = events[0], events[-1]
    assert (watch.state, watch.message) == (State.DONE, "")
    assert first.is_active
    assert [point.epoch for point in first.curve[:3]] == [1, 2, 3]
    assert len(first.curve) < EPOCHS
    assert (last.state, last.key_metric) == ("DONE", KEY_METRIC)
    assert last.curve == watch.curve
    assert [(point.epoch, point.loss, point.metric) for point in last.curve] == on_disk(folder)
    assert [point.epoch for point in last.curve] == list(range(1, EPOCHS + 1))
    best = max(last.curve, key=lambda point: point.metric or -1e9)
    assert (last.best, last.best_epoch) == (best.metric, best.epoch)  # may be below 0, as the training is so short


def test_curve_is_complete_after_the_end(
    server: RunningServer, watch_of_active_training: tuple[TrainingWatch, list[Training]]
) -> None:
    again = TrainingWatch(Client(server.url))
    finished(again)
    assert again.training == watch_of_active_training[0].training


def test_curve_is_complete_after_a_restart(
    folder: Path, server: RunningServer, watch_of_active_training: tuple[TrainingWatch, list[Training]]
) -> None:
    before = watch_of_active_training[0].training
    assert before is not None
    stop_process(server.process)
    with running_server("ct2pet_app", folder / "studies", folder, **CONF) as restarted:
        assert restarted.request("GET", "/train/").status_code == 404  # MONAI Label does not remember it
        training = Client(restarted.url).training()
        assert (training.model, training.state, training.curve) == ("unet", "DONE", before.curve)
        assert (training.verdict, training.version, training.published) == (
            before.verdict,
            before.version,
            before.published,
        )
        # the next training starts with an empty curve
        restarted.request("POST", "/train/unet", json={"max_epochs": 100_000})
        watch = TrainingWatch(Client(restarted.url), interval_s=0.1)
        watch.start()
        events = drain_until(watch, lambda: len(watch.curve) >= 2, timeout_s=150)
        assert all(len(one.curve) < EPOCHS for one in events)
        restarted.request("DELETE", "/train/")
        drain_until(watch, lambda: watch.state.is_over)
        assert watch.training is not None
        assert (watch.training.state, [point.epoch for point in watch.curve[:2]]) == ("STOPPED", [1, 2])
