"""A real server for all tests of the client: with accounts, two phantoms, and a model with different voxel values."""

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
from CT2PETLib.client.http.connection import Connection
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
    """The server and its test data."""

    server: RunningServer
    ct_uid: str
    ct: Volume
    studies: Path
    before_training: Connection  # result of the connection test before a model was trained

    def client(self, user: str = "ada", *, url: str = "") -> Client:
        """Return a signed-in client; `url` may be that of a proxy."""
        client = Client(url or self.server.url, timeout_s=240)
        client.sign_in(user, PASSWORD)
        return client


def save_varied_model(path: Path, *, seed: int = 0) -> Path:
    """Write a cascade3 with random weights and a context of three slices, so that misplaced slabs are detected."""
    recipe = tiny_recipe(3)
    recipe = replace(recipe, network=replace(recipe.network, context_slices=3, base_channels=4))
    torch.manual_seed(seed)
    cascade = Cascade(recipe.network)
    with torch.no_grad():  # 0.4 is 3.2 SUV: no voxel is clipped at 0
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
    """Run a server with accounts, an uploaded cascade3 and an untrained cascade2."""
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
    """Upload a model as cascade3."""
    response = server.logged_in_as("ada").request("PUT", "/model/cascade3", files={"file": model.read_bytes()})
    assert response.status_code == 200, response.text


@pytest.fixture
def client(clinic: Clinic) -> Client:
    """Return the signed-in client of an admin."""
    return clinic.client()


@pytest.fixture
def proxy(clinic: Clinic) -> Iterator[Proxy]:
    """Run a proxy in front of the server."""
    with proxy_before(clinic.server.url) as running:
        yield running


def drain_until(job: Job, condition: Callable[[], bool], *, timeout_s: float = 60.0) -> list[Any]:
    """Return the events of a job until a condition holds, drained as by a timer of the window."""
    events, deadline = [], time.monotonic() + timeout_s
    while not condition():
        events += job.drain()
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {job.state} {job.message}")
        time.sleep(0.02)
    return events


def finished(job: Job, *, timeout_s: float = 60.0) -> list[Any]:
    """Run a job to its end, and return its events."""
    job.start()
    return drain_until(job, lambda: job.state.is_over, timeout_s=timeout_s)
