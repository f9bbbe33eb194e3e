"""A clinician's workflow in the panel, with Slicer's libraries and a live server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.conftest import REPOSITORY
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import PASSWORD, RunningServer, running_server, write_users
from tests.slicer.environment import slicer_python
from tests.slicer.test_inside import INSIDE, PROGRAM

pytestmark = [pytest.mark.server, pytest.mark.slow]
SMALL = PhantomSettings(slices=40, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# half of the patients validate, so that there are patients to evaluate on; the network is that of the constant model
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none;validation=0.5;test=0.0;workers=0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with five phantoms and a model that predicts 2 SUV everywhere; a sixth is not on it yet.

    It has accounts: Ada may do all.
    """
    slicer_python()  # no server is started where the test will be skipped
    folder = tmp_path_factory.mktemp("path")
    patients = write_phantoms(folder / "studies", patients=6, settings=SMALL)
    patients[-1].rename(folder / "new")
    save_constant_model(folder / "models" / "cascade3" / "model.safetensors", 2.0)
    users = write_users(folder, {"ada": "admin"})
    with running_server(
        REPOSITORY / "ct2pet_app", folder / "studies", folder, width="2", set=TINY, users=users
    ) as running:
        yield running


def test_clinicians_workflow(server: RunningServer, tmp_path: Path) -> None:
    environment = {
        **os.environ, "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1", "CT2PET_TEST_SERVER": server.url,
        "CT2PET_TEST_PASSWORD": PASSWORD,
        "CT2PET_TEST_PAIR": str(server.log.with_name("new")),
    }  # fmt: skip
    file = INSIDE / "live_path.py"
    command = [
        slicer_python(),
        "-c",
        PROGRAM,
        "-c",
        str(INSIDE / "pytest.ini"),
        "-q",
        "--basetemp",
        str(tmp_path / "t"),
    ]
    done = subprocess.run(
        [*command, str(file)], cwd=INSIDE, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
