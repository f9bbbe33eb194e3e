"""A real Orthanc with its DICOMweb plugin on loopback, with its storage in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import requests
from pydicom import dcmread

from lib.dicom.remote.pacs import Pacs
from lib.dicom.remote.session import Credentials
from tests.conftest import missing
from tests.server.processes import RunningServer, free_port, running_server, stop_process

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "ct2pet", "s\u00e9same"
READY_TIMEOUT_S = 60.0


@contextlib.contextmanager
def running_orthanc(program: str, folder: Path, *held: Path) -> Iterator[Orthanc]:
    """Yield an Orthanc with the DICOM files of these folders, and stop it at the end."""
    if not PLUGIN.is_file():
        missing("orthanc", f"{PLUGIN} is not installed (Debian: orthanc-dicomweb)")
    running = Orthanc(program, folder)
    try:
        running.start()
        running.upload(*held)
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def server_of_pacs(orthanc: Orthanc, folder: Path, **conf: str) -> Iterator[RunningServer]:
    """Yield a server without accounts whose datastore is an Orthanc; its cache is `cache` next to its log."""
    variables = {
        "MONAI_LABEL_DATASTORE_USERNAME": USER,
        "MONAI_LABEL_DATASTORE_PASSWORD": PASSWORD,
        "MONAI_LABEL_DATASTORE_CACHE_PATH": str(folder / "cache"),
    }
    with running_server("ct2pet_app", orthanc.url, folder, variables=variables, **conf) as running:
        yield running


class Orthanc:
    """An Orthanc that can be killed and restarted with its stored instances."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "storage").mkdir(parents=True)
        self._config = folder / "orthanc.json"
        self._config.write_text(
            json.dumps(
                {
                    "StorageDirectory": str(folder / "storage"),
                    "IndexDirectory": str(folder / "storage"),
                    "SyncStorageArea": False,  # faster; tests need no durability
                    "HttpPort": self.port,
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": True,
                    "RegisteredUsers": {USER: PASSWORD},
                    "Plugins": [str(PLUGIN)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )

    @property
    def url(self) -> str:
        """The DICOMweb URL."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def pacs(self) -> Pacs:
        """Return a client with valid credentials."""
        return Pacs(self.url, Credentials(USER, PASSWORD))

    def start(self) -> None:
        """Start Orthanc and wait until it responds."""
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._config)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{self.url}/studies", auth=(USER, PASSWORD.encode()), timeout=5).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError(f"Orthanc does not respond:\n{(self.folder / 'orthanc.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """Kill the process immediately, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop Orthanc."""
        if self._process is not None:
            stop_process(self._process)

    def upload(self, *folders: Path) -> None:
        """Store the DICOM files of folders."""
        self.pacs().store(dcmread(file) for folder in folders for file in sorted(folder.rglob("*.dcm")))

    def count(self, **filters: str) -> int:
        """Return the number of series that QIDO-RS finds."""
        response = requests.get(f"{self.url}/series", params=filters, auth=(USER, PASSWORD.encode()), timeout=30)
        response.raise_for_status()
        return len(response.json())
