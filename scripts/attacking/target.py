"""The real server that is attacked: on phantoms, with an untrained network, within a limit on its memory."""

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
from scripts.benchmarks.live import save_untrained
from tests.ct2pet_app.constant_model import save_sensitive_model
from tests.server.processes import RunningServer, running_server, write_users

MODEL = "cascade3"
SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
# the recipe's grid of 2 mm with a network of some hundred weights: what it holds in memory is the data
FAST_NETWORK = ("base_channels=2", "depth=1", "context_slices=1")
GIB = 2**30
REQUEST_TIMEOUT_S = 60.0  # after which a client gives up; the server must end the work then


@dataclass
class Target:
    """A server that is attacked.

    Attributes:
        server: With the token of an administrator where accounts are on.
        ct: UID of a CT that is there.
        rest_mb: Resident memory of the server's process, its model loaded.
        folder: Everything lies here; `studies` in it.
    """

    server: RunningServer
    ct: str
    rest_mb: float
    folder: Path

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return self.server.url

    @property
    def host(self) -> tuple[str, int]:
        """Return host and port."""
        name, _, port = self.url.removeprefix("http://").partition(":")
        return name, int(port)

    @property
    def pid(self) -> int:
        """Return the process id of the server itself, not of the script that started it."""
        return server_pid(self.server)

    def rest(self) -> None:
        """Take what the server holds now as its rest."""
        self.rest_mb = resident_mb(self.pid)

    def is_alive(self) -> bool:
        """Return whether the server's process runs."""
        return self.server.process.poll() is None

    @contextlib.contextmanager
    def watched(self) -> Iterator[Measured]:
        """Measure the server inside the `with`."""
        with watched(self.url, self.pid, rest_mb=self.rest_mb, token=self.server.token) as measured:
            yield measured

    def request(self, method: str, path: str, *, client: Any = requests, **arguments: Any) -> requests.Response:
        """Return the response to one request, whatever its status; `client` may be a session of `requests`."""
        if self.server.token:
            headers = {"Authorization": f"Bearer {self.server.token}"}
            arguments["headers"] = {**headers, **arguments.get("headers", {})}
        arguments.setdefault("timeout", REQUEST_TIMEOUT_S)
        response: requests.Response = client.request(method, f"{self.url}{path}", **arguments)
        return response


def server_pid(server: RunningServer) -> int:
    """Return the process id of the server itself, not of the script or tracer that started it."""
    started = psutil.Process(server.process.pid)
    python = [process for process in [started, *started.children(recursive=True)] if "python" in process.name()]
    return python[0].pid


@contextlib.contextmanager
def target(
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
    """Start a server and load its model; end it, with every process that it started.

    Args:
        studies: A folder or the URL of a PACS; two phantoms are made where it is left out.
        network: Settings of the untrained network on top of the default recipe.
        memory_limit_gb: Addresses that the server's processes may map; 0 for no limit. What passes it is a finding,
            and must not take the machine with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if studies is None:
        studies = folder / "studies"
        write_phantoms(studies, patients=patients, settings=phantom)
    save_untrained(folder / "models" / MODEL / "model.safetensors", load_recipe(settings=("stages=3", *network)))
    save_sensitive_model(folder / "models" / "unet" / "model.safetensors", network)
    settings: dict[str, str | Path] = {"models": f"unet,{MODEL}", **conf}
    if accounts:
        settings["users"] = write_users(folder)
    limit_bytes = int(memory_limit_gb * GIB)
    with running_server("ct2pet_app", str(studies), folder, memory_limit_bytes=limit_bytes, **settings) as server:
        known = server.logged_in_as("ada") if accounts else server
        ct = ""
        if isinstance(studies, Path):
            ct = scan_folder(studies).usable("CT")[0].series.uid
            # another CT than the one that is attacked with: that one is kept in memory once it was read
            small = nrrd((64, 64, 2), (5.0, 5.0, 3.0), ct_numbers(2, 64, 64))
            answer = known.infer(MODEL, output="json", files={"file": ("small.nrrd", small)})
            if answer.status_code != 200:
                raise RuntimeError(f"the server under attack cannot infer: {answer.status_code} {answer.text[:300]}")
        yield Target(known, ct, resident_mb(server_pid(server)), folder)
