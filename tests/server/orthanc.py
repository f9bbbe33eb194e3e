"""A real Orthanc with its DICOMweb plugin, on loopback, its storage in a temporary folder."""

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
from tests.server.processes import end, free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "ct2pet", "s\u00e9same"
READY_TIMEOUT_S = 60.0


@contextlib.contextmanager
def running_orthanc(program: str, folder: Path, *held: Path) -> Iterator[Orthanc]:
    """Yield an Orthanc that holds what lies in these folders; it ends with the block, whatever happens there."""
    if not PLUGIN.is_file():
        missing("orthanc", f"{PLUGIN} is not installed (Debian: orthanc-dicomweb)")
    running = Orthanc(program, folder)
    try:
        running.start()
        running.upload(*held)
        yield running
    finally:
        running.end()


class Orthanc:
    """An Orthanc that can be killed and started again with what it holds."""

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
                    "SyncStorageArea": False,  # this disk need not survive a power cut
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
        """Its DICOMweb address."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def pacs(self) -> Pacs:
        """Return a client that knows the password."""
        return Pacs(self.url, Credentials(USER, PASSWORD))

    def start(self) -> None:
        """Start it, and wait until it answers."""
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
        raise AssertionError(f"Orthanc does not answer:\n{(self.folder / 'orthanc.log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """End it for good."""
        if self._process is not None:
            end(self._process)

    def upload(self, *folders: Path) -> None:
        """Store the DICOM files of folders."""
        self.pacs().store(dcmread(file) for folder in folders for file in sorted(folder.rglob("*.dcm")))

    def count(self, **filters: str) -> int:
        """Return how many series QIDO-RS finds."""
        answer = requests.get(f"{self.url}/series", params=filters, auth=(USER, PASSWORD.encode()), timeout=30)
        answer.raise_for_status()
        return len(answer.json())
