"""A synthesis continues without loss when the server is killed and restarted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from CT2PETLib.client.client import Client
from CT2PETLib.client.http.transport import RetryPolicy
from CT2PETLib.jobs import jobs
from CT2PETLib.jobs.events import ConnectionLost, ReceivedSlab
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import write_phantoms
from tests.server.processes import PASSWORD, RunningServer, running_server, stop_process, write_users
from tests.slicer.client.conftest import SLICES, SMALL, drain_until, publish, save_varied_model
from tests.slicer.proxy import proxy_before

pytestmark = [pytest.mark.server, pytest.mark.slow]


def target_of(server: RunningServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.url.rpartition(":")[2])


def test_synthesis_continues_after_a_restart_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "RECONNECT", RetryPolicy(600.0))  # a loaded machine starts a server slowly
    write_phantoms(tmp_path / "studies", patients=1, settings=SMALL)
    image_id = scan_folder(tmp_path / "studies").usable("CT")[0].series.uid
    conf = {"models": "cascade3", "users": write_users(tmp_path)}
    with running_server("ct2pet_app", tmp_path / "studies", tmp_path, **conf) as first:
        publish(first, save_varied_model(tmp_path / "model.safetensors"))
        with proxy_before(first.url) as proxy:
            client = Client(proxy.url)
            client.sign_in("una", PASSWORD)
            job = SynthesisJob(client, model="cascade3", image_id=image_id, requested=(0, SLICES), centre=20)
            job.start()
            events = drain_until(job, lambda: job.fraction > 0)
            proxy.holding.set()  # the next request is pending
            stop_process(first.process)
            proxy.holding.clear()
            proxy.cut_all()
            while not any(isinstance(one, ConnectionLost) for one in events):
                events += job.drain()
                time.sleep(0.02)
            with running_server("ct2pet_app", tmp_path / "studies", tmp_path, **conf) as second:
                proxy.target = target_of(second)
                events += drain_until(job, lambda: job.state.is_over, timeout_s=120)
                assert (job.state, job.message, job.missing) == (State.DONE, "", ())  # the token is still valid
                full = client.slab("cascade3", image_id, 0, SLICES).pet_volume().array
    slabs = [one for one in events if isinstance(one, ReceivedSlab)]
    assert sum(slab.stop - slab.start for slab in slabs) == SLICES
    for slab in slabs:
        np.testing.assert_allclose(slab.pet.array, full[slab.start : slab.stop], rtol=0, atol=1e-5)
