"""The real server under attack: on phantoms, with an untrained network and a memory limit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from lib.dicom.scan.scan import scan_folder
from lib.learning.recipe import load_recipe
from lib.phantom.generate import PhantomSettings, write_phantoms
from scripts.attacking.uploads import ct_numbers, nrrd
from scripts.attacking.watch import Measured, resident_mb, watched
from scripts.benchmarks.network import save_untrained
from tests.ct2pet_app.constant_model import save_sensitive_model
from tests.server.processes import RunningServer, running_server, write_users

MODEL = "cascade3"
SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# the default grid of 2 mm with a network of some hundred weights: image data dominate the memory
FAST_NETWORK = ("base_channels=2", "depth=1", "context_slices=1")
GIB = 2**30
REQUEST_TIMEOUT_S = 60.0  # after which a client disconnects; the server must then end the work


@dataclass
class Target:
    """A server under attack.

    Attributes:
        server: The server, with an administrator's token if accounts are enabled.
        ct: Series UID of an existing CT.
        idle_mb: Resident memory of the server with its model loaded, before the attacks, MB.
        folder: Folder of studies, models and log.
    """

    server: RunningServer
    ct: str
    idle_mb: float
    folder: Path

    @property
    def url(self) -> str:
        """The URL of the server."""
        return self.server.url

    @property
    def host(self) -> tuple[str, int]:
        """The host and port of the server."""
        name, _, port = self.url.removeprefix("http://").partition(":")
        return name, int(port)

    @property
    def pid(self) -> int:
        """The process id of the server, not of the script that started it."""
        return server_pid(self.server)

    def record_idle_memory(self) -> None:
        """Set `idle_mb` to the server's current memory."""
        self.idle_mb = resident_mb(self.pid)

    def is_alive(self) -> bool:
        """Return whether the server process is running."""
        return self.server.process.poll() is None

    @contextlib.contextmanager
    def watched(self) -> Iterator[Measured]:
        """Measure the server during the `with` block."""
        with watched(self.url, self.pid, idle_mb=self.idle_mb, token=self.server.token) as measured:
            yield measured

    def request(self, method: str, path: str, *, client: Any = requests, **arguments: Any) -> requests.Response:
        """Send a request and return its response, whatever the status; `client` may be a `requests.Session`."""
        if self.server.token:
            headers = {"Authorization": f"Bearer {self.server.token}"}
            arguments["headers"] = {**headers, **arguments.get("headers", {})}
        arguments.setdefault("timeout", REQUEST_TIMEOUT_S)
        response: requests.Response = client.request(method, f"{self.url}{path}", **arguments)
        return response


def server_pid(server: RunningServer) -> int:
    """Return the process id of the server, not of the script or tracer that started it."""
    started = psutil.Process(server.process.pid)
    python = [process for process in [started, *started.children(recursive=True)] if "python" in process.name()]
    return python[0].pid


@contextlib.contextmanager
def running_target(
    folder: Path,
    *,
    accounts: bool = False,
    phantom: PhantomSettings = SMALL,
    patients: int = 2,
    studies: str | Path | None = None,
    network: tuple[str, ...] = FAST_NETWORK,
    memory_limit_gb: float = 10.0,
    **conf: str,
) -> Iterator[Target]:
    """Start a server, load its model, yield it, and stop it with all its child processes.

    Args:
        studies: A folder or the URL of a PACS; default: two phantoms.
        network: Settings of the untrained network on top of the default recipe.
        memory_limit_gb: Virtual address space of each server process, GiB; 0 for no limit. It protects this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if studies is None:
        studies = folder / "studies"
        write_phantoms(studies, patients=patients, settings=phantom)
    save_untrained(folder / "models" / MODEL / "model.safetensors", load_recipe(settings=("stages=3", *network)))
    save_sensitive_model(folder / "models" / "unet" / "model.safetensors", network)
    settings: dict[str, Any] = {"models": f"unet,{MODEL}", **conf}
    if accounts:
        settings["users"] = write_users(folder)
    limit_bytes = int(memory_limit_gb * GIB)
    with running_server("ct2pet_app", str(studies), folder, memory_limit_bytes=limit_bytes, **settings) as server:
        client = server.logged_in_as("ada") if accounts else server
        ct = ""
        if isinstance(studies, Path):
            ct = scan_folder(studies).usable("CT")[0].series.uid
            # not the CT of the attacks, which would then be cached
            small = nrrd((64, 64, 2), (5.0, 5.0, 3.0), ct_numbers(2, 64, 64))
            response = client.infer(MODEL, output="json", files={"file": ("small.nrrd", small)})
            if response.status_code != 200:
                raise RuntimeError(
                    f"the server under attack cannot infer: {response.status_code} {response.text[:300]}"
                )
        yield Target(client, ct, resident_mb(server_pid(server)), folder)
