"""One real server for all tests of the client: accounts on, two phantoms, a model whose every voxel differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from CT2PETLib.client.client import Client
from CT2PETLib.client.connection import Connection
from CT2PETLib.jobs.job import Job

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import scan_folder
from lib.imaging.volume import Volume
from lib.learning.checkpoint import save_checkpoint
from lib.learning.model_card.card import ModelCard, TrainingData
from lib.metrics.baselines import BaselineSample, fit_baselines
from lib.metrics.calibration import Calibration
from lib.networks.cascade import Cascade
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import tiny_recipe
from tests.server.processes import PASSWORD, RunningServer, running_server, write_users
from tests.slicer.proxy import Proxy, proxy_before

SLICES = 40
SMALL = PhantomSettings(slices=SLICES, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
CURVE = Calibration(np.array([0.0, 4.0]), np.array([0.5, 1.5]), volumes=5)
SHORT_RUN = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=3;patience=0;validation=0.0;test=0.0"


@dataclass(frozen=True)
class Clinic:
    """The server, and what is known of it."""

    server: RunningServer
    ct_uid: str
    ct: Volume
    studies: Path
    before_training: Connection  # what the client said when no model was trained yet

    def client(self, user: str = "ada", *, url: str = "") -> Client:
        """A client of somebody who has signed in; at another address, such as a proxy's, if that is given."""
        client = Client(url or self.server.url, timeout_s=240)
        client.sign_in(user, PASSWORD)
        return client


def save_varied_model(path: Path, *, seed: int = 0) -> Path:
    """Write a cascade3 with random weights that sees three slices: a slab in the wrong place cannot go unnoticed."""
    recipe = tiny_recipe(3)
    recipe = replace(recipe, network=replace(recipe.network, context_slices=3, base_channels=4))
    torch.manual_seed(seed)
    cascade = Cascade(recipe.network)
    with torch.no_grad():  # 0.4 is 3.2 SUV: no voxel is cut off at 0
        cascade.stages[0].head.bias.fill_(0.4)  # type: ignore[union-attr]
    sample = BaselineSample(
        np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32), np.ones((1, 2, 2), np.bool_)
    )
    card = ModelCard(
        name=f"varied-{seed}",
        created="2026-01-01T00:00:00+00:00",
        recipe=recipe,
        network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=1,
        scores=None,
        baselines=fit_baselines([sample]).to_json(),
        versions={},
        calibration=CURVE.to_json(),
    )
    return save_checkpoint(path, cascade, card)


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A server with accounts, its cascade3 trained elsewhere, its cascade2 never."""
    studies, folder = tmp_path_factory.mktemp("studies"), tmp_path_factory.mktemp("server")
    write_phantoms(studies, patients=2, settings=SMALL)
    ct = scan_folder(studies).usable("CT")[0].series
    conf = {"models": "unet,cascade3,cascade2", "width": "2", "set": SHORT_RUN, "users": write_users(folder)}
    with running_server("ct2pet_app", studies, folder, **conf) as server:
        client = Client(server.url)
        client.sign_in("ada", PASSWORD)
        before = client.test_connection()
        publish(server, save_varied_model(folder / "model.safetensors"))
        yield Clinic(server, ct.uid, read_ct(ct), studies, before)


def publish(server: RunningServer, model: Path) -> None:
    """Put a model into the place of cascade3."""
    answer = server.logged_in_as("ada").ask("PUT", "/model/cascade3", files={"file": model.read_bytes()})
    assert answer.status_code == 200, answer.text


@pytest.fixture
def client(clinic: Clinic) -> Client:
    """A client of an admin who has signed in."""
    return clinic.client()


@pytest.fixture
def proxy(clinic: Clinic) -> Iterator[Proxy]:
    """A proxy before the server, which does nothing yet."""
    with proxy_before(clinic.server.url) as made:
        yield made


def drain_until(job: Job, condition: Callable[[], bool], *, timeout_s: float = 60.0) -> list[Any]:
    """Return what came of a job until a condition holds, drained as a timer of the window would."""
    come, deadline = [], time.monotonic() + timeout_s
    while not condition():
        come += job.drain()
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {job.state} {job.sentence}")
        time.sleep(0.02)
    return come


def finished(job: Job, *, timeout_s: float = 60.0) -> list[Any]:
    """Return all that came of a job once it is over."""
    job.start()
    return drain_until(job, lambda: job.state.is_over, timeout_s=timeout_s)
