"""The real server under many large requests at once: its memory stays below the budget, and it goes on answering."""

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

from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")

BUDGET_MB, ALL_ELSE_MB = 150, 150  # of arrays; uploads on their way, threads, caches of libraries
ANSWER_S = 20.0  # a failure's bound: an idle machine answers within 0.2 s


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("memory")
    write_phantoms(folder / "studies", patients=1, settings=PhantomSettings(slices=40))
    save_constant_model(folder / "models" / "unet" / "model.safetensors", 2.5, stages=1)
    conf = {"models": "unet", "memory_gb": f"{BUDGET_MB / 1e3}"}
    with running_server("ct2pet_app", folder / "studies", folder, **conf) as running:
        wait_until(lambda: all(pair["check"]["result"] != "unchecked" for pair in running.json("/ct2pet/pairs")))
        assert running.infer("unet", image=ct_of(running)).status_code == 200  # what is loaded once is loaded now
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.2)


def ct_of(server: RunningServer) -> str:
    return str(server.json("/ct2pet/pairs")[0]["ct_series_instance_uid"])


def ct_file(path: Path, slices: int) -> bytes:
    """A CT of 256 x 256 pixels that packs well; reading it takes 8 bytes a voxel."""
    array = np.full((slices, 256, 256), -1000, np.float32)
    array[:, 64:192, 64:192] = 40
    geometry = Geometry((slices, 256, 256), np.diag([1.6, 1.6, 2.0, 1.0]))
    return write_volume_file(Volume(array, geometry, Unit.HU), path).read_bytes()


@contextmanager
def answering(server: RunningServer) -> Iterator[None]:
    """Ask `/info/` again and again; fail when it once takes long, or is no answer."""
    ended, slowest, statuses = threading.Event(), [0.0], set()

    def ask() -> None:
        while not ended.is_set():
            began = time.monotonic()
            statuses.add(server.ask("GET", "/info/").status_code)
            slowest[0] = max(slowest[0], time.monotonic() - began)
            ended.wait(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join(120)
    assert statuses == {200} and slowest[0] < ANSWER_S, f"/info/: {statuses}, slowest {slowest[0]:.1f} s"


@contextmanager
def peak_below_budget(server: RunningServer) -> Iterator[None]:
    """Fail when the server's memory peaks higher above what it holds at rest than it may."""
    started = psutil.Process(server.process.pid)
    python = next(one for one in (started, *started.children(recursive=True)) if "python" in one.name())
    Path(f"/proc/{python.pid}/clear_refs").write_text("5")  # VmHWM begins anew
    rest_mb = memory_mb(python.pid, "VmRSS")
    yield
    peak_mb = memory_mb(python.pid, "VmHWM") - rest_mb
    assert peak_mb < BUDGET_MB + ALL_ELSE_MB, f"{peak_mb:.0f} MB above rest"


def memory_mb(pid: int, key: str) -> float:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1e3


def abandoned(server: RunningServer, request: str, *, times: int) -> None:
    """Send a request so many times, and disconnect at once."""
    host, port = server.url.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(times)]
    for connection in connections:
        connection.sendall(f"{request} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
    time.sleep(0.5)
    for connection in connections:
        connection.close()


def test_eight_large_uploads_at_once_take_their_turns(server: RunningServer, tmp_path: Path) -> None:
    content = ct_file(tmp_path / "ct.nrrd", 200)  # 105 MB to read, of 100 kB

    def upload(number: int) -> requests.Response:
        files = {"file": ("ct.nrrd", content)}
        return server.ask("PUT", "/datastore/image", params={"image": f"upload {number}"}, files=files)

    with answering(server), peak_below_budget(server), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(upload, range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8, answers[0].text


@pytest.mark.parametrize("way", ["an upload", "an inference"])
def test_a_ct_larger_than_the_budget_is_refused_with_the_way_out(
    server: RunningServer, tmp_path: Path, way: str
) -> None:
    files = {"file": ("ct.nrrd", ct_file(tmp_path / "ct.nrrd", 320))}
    with peak_below_budget(server):
        if way == "an upload":
            answer = server.ask("PUT", "/datastore/image", params={"image": "large"}, files=files)
        else:
            answer = server.infer("unet", files=files)
    assert answer.status_code == 413
    assert "allowed are 150 MB" in answer.json()["detail"] and "--conf memory_gb" in answer.json()["detail"]


def test_pixels_so_coarse_that_the_network_would_see_millions_are_refused(
    server: RunningServer, tmp_path: Path
) -> None:
    volume = Volume(np.zeros((8, 64, 64), np.float32), Geometry((8, 64, 64), np.diag([160.0, 160, 2, 1])), Unit.HU)
    volume.array[:, :32] = -1000
    content = write_volume_file(volume, tmp_path / "ct.nrrd").read_bytes()
    with answering(server), peak_below_budget(server):
        answer = server.infer("unet", files={"file": ("ct.nrrd", content)})
    assert answer.status_code in (400, 413), answer.text[:200]


def test_downloads_that_are_given_up_hold_nobody_up(server: RunningServer) -> None:
    ct = ct_of(server)
    with answering(server), peak_below_budget(server):
        abandoned(server, f"GET /datastore/image?image={ct}", times=48)
        answer = server.ask("GET", "/datastore/image", params={"image": ct})
    assert answer.status_code == 200 and answer.content.startswith(b"NRRD")


def test_inferences_that_are_given_up_free_what_they_held(server: RunningServer) -> None:
    ct = ct_of(server)
    with answering(server), peak_below_budget(server):
        for _ in range(3):  # more than may be under way at once, were they not over
            abandoned(server, f"POST /infer/unet?image={ct}", times=16)
        wait_until(lambda: server.infer("unet", image=ct).status_code == 200)
