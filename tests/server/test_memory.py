"""The real server under many large concurrent requests: memory stays below the budget, and it keeps responding."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from lib.imaging.files.volume_file import FAST, write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")

BUDGET_MB, OVERHEAD_MB = 150, 150  # budget for arrays; allowance for uploads, threads, library caches
MAX_INFO_S = 20.0  # generous: an idle machine responds within 0.2 s


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("memory")
    write_phantoms(folder / "studies", patients=1, settings=PhantomSettings(slices=40))
    save_constant_model(folder / "models" / "unet" / "model.safetensors", 2.5, stages=1)
    conf = {"models": "unet", "memory_gb": f"{BUDGET_MB / 1e3}"}
    with running_server("ct2pet_app", folder / "studies", folder, **conf) as running:
        wait_until(lambda: all(pair["check"]["result"] != "unchecked" for pair in running.json("/ct2pet/pairs")))
        assert running.infer("unet", image=ct_of(running)).status_code == 200  # loads the model
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "timed out after 120 s"
        time.sleep(0.2)


def ct_of(server: RunningServer) -> str:
    return str(server.json("/ct2pet/pairs")[0]["ct_series_instance_uid"])


def ct_file(path: Path, slices: int) -> bytes:
    """Return a CT of 256 x 256 pixels that compresses well; reading it takes 8 bytes per voxel."""
    array = np.full((slices, 256, 256), -1000, np.float32)
    array[:, 64:192, 64:192] = 40
    geometry = Geometry((slices, 256, 256), np.diag([1.6, 1.6, 2.0, 1.0]))
    return write_volume_file(Volume(array, geometry, Unit.HU), path, compression=FAST).read_bytes()


@contextmanager
def info_stays_responsive(server: RunningServer) -> Iterator[None]:
    """Poll `/info/`; fail if a response is slow or an error."""
    ended, slowest, statuses = threading.Event(), [0.0], set()

    def poll_info() -> None:
        while not ended.is_set():
            start = time.monotonic()
            statuses.add(server.request("GET", "/info/").status_code)
            slowest[0] = max(slowest[0], time.monotonic() - start)
            ended.wait(0.05)

    poller = threading.Thread(target=poll_info)
    poller.start()
    try:
        yield
    finally:
        ended.set()
        poller.join(120)
    assert statuses == {200} and slowest[0] < MAX_INFO_S, f"/info/: {statuses}, slowest {slowest[0]:.1f} s"


@contextmanager
def peak_below_budget(server: RunningServer) -> Iterator[None]:
    """Fail if the server's peak memory exceeds its idle memory by more than the budget and the allowance."""
    started = psutil.Process(server.process.pid)
    python = next(one for one in (started, *started.children(recursive=True)) if "python" in one.name())
    Path(f"/proc/{python.pid}/clear_refs").write_text("5")  # resets VmHWM
    idle_mb = memory_mb(python.pid, "VmRSS")
    yield
    peak_mb = memory_mb(python.pid, "VmHWM") - idle_mb
    assert peak_mb < BUDGET_MB + OVERHEAD_MB, f"{peak_mb:.0f} MB above idle"


def memory_mb(pid: int, key: str) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1e3


def send_and_disconnect(server: RunningServer, request: str, *, times: int) -> None:
    """Send a request `times` times and disconnect without reading the responses."""
    host, port = server.url.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(times)]
    for connection in connections:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
    time.sleep(0.5)
    for connection in connections:
        connection.close()


def test_eight_large_concurrent_uploads_wait_for_memory(server: RunningServer, tmp_path: Path) -> None:
    content = ct_file(tmp_path / "ct.nrrd", 200)  # 105 MB in memory, 100 kB compressed

    def upload(number: int) -> requests.Response:
        files = {"file": ("ct.nrrd", content)}
        return server.request("PUT", "/datastore/image", params={"image": f"upload {number}"}, files=files)

    with info_stays_responsive(server), peak_below_budget(server), ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(upload, range(8)))
    assert [response.status_code for response in responses] == [200] * 8, responses[0].text


@pytest.mark.parametrize("way", ["an upload", "an inference"])
def test_a_ct_larger_than_the_budget_is_refused_with_advice(server: RunningServer, tmp_path: Path, way: str) -> None:
    files = {"file": ("ct.nrrd", ct_file(tmp_path / "ct.nrrd", 320))}
    with peak_below_budget(server):
        if way == "an upload":
            response = server.request("PUT", "/datastore/image", params={"image": "large"}, files=files)
        else:
            response = server.infer("unet", files=files)
    assert response.status_code == 413
    assert "allowed are 150 MB" in response.json()["detail"] and "--conf memory_gb" in response.json()["detail"]


def test_pixels_too_coarse_for_the_network_grid_are_refused(server: RunningServer, tmp_path: Path) -> None:
    volume = Volume(np.zeros((8, 64, 64), np.float32), Geometry((8, 64, 64), np.diag([160.0, 160, 2, 1])), Unit.HU)
    volume.array[:, :32] = -1000
    content = write_volume_file(volume, tmp_path / "ct.nrrd").read_bytes()
    with info_stays_responsive(server), peak_below_budget(server):
        response = server.infer("unet", files={"file": ("ct.nrrd", content)})
    assert response.status_code in (400, 413), response.text[:200]


def test_aborted_downloads_block_no_other_client(server: RunningServer) -> None:
    ct = ct_of(server)
    with info_stays_responsive(server), peak_below_budget(server):
        send_and_disconnect(server, f"GET /datastore/image?image={ct}", times=48)
        response = server.request("GET", "/datastore/image", params={"image": ct})
    assert response.status_code == 200 and response.content.startswith(b"NRRD")


def test_aborted_inferences_release_their_memory(server: RunningServer) -> None:
    ct = ct_of(server)
    with info_stays_responsive(server), peak_below_budget(server):
        for _ in range(3):  # together more than may run at once
            send_and_disconnect(server, f"POST /infer/unet?image={ct}", times=16)
        wait_until(lambda: server.infer("unet", image=ct).status_code == 200)
    assert server.process.poll() is None
