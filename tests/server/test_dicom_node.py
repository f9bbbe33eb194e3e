"""`scripts/serve --dicom-port` as a PACS administrator runs it, from a real CT to Orthanc and storescp."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
from pydicom import dcmread

from ct2pet_app.dicom_node.layout import NodeLayout
from lib.dicom.scan.scan import scan_folder
from tests.ct2pet_app.constant_model import save_constant_model
from tests.ct2pet_app.dicom_node.peers import Node, peers_toml, running_storescp, wait_for
from tests.learning.familiarity.limbs import limb_reference
from tests.server.processes import REPOSITORY, free_port, stop_process

pytestmark = [pytest.mark.server, pytest.mark.slow]

SUV = 1.5
SYNTHETIC_DATA = 0x0008001C
START_TIMEOUT_S = 120.0
SECOND_PEER = """
[[peer]]
name = "{name}"
aet = "ORTHANC"
host = "127.0.0.1"
port = {port}
"""
RULE = """
[[rule]]
when = "{when}"
model = "{model}"
send_to = "{to}"
"""


class Orthanc:
    """A real Orthanc that stores what it gets by C-STORE."""

    def __init__(self, program: str, folder: Path) -> None:
        self.dicom_port, self.port, self._program, self.folder = free_port(), free_port(), program, folder
        folder.mkdir()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and stop it at the end."""
        settings = {
            "StorageDirectory": str(self.folder), "IndexDirectory": str(self.folder), "SyncStorageArea": False,
            "HttpPort": self.port, "DicomPort": self.dicom_port, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "DicomCheckCalledAet": True,
            "OverwriteInstances": False,
        }  # fmt: skip
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        with (self.folder / "orthanc.log").open("ab") as log:
            process = subprocess.Popen([self._program, config], stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for("Orthanc answers", lambda: self.get("/system"))
            yield
        finally:
            stop_process(process)

    def get(self, path: str) -> object:
        """Return the JSON of a path; None while Orthanc does not answer."""
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=30).json()
        return None


class Served:
    """`scripts/serve` with a DICOM node."""

    def __init__(self, node: Node) -> None:
        self.node, self.port = node, free_port()

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start the script and wait until both ports answer; stop it at the end."""
        node = self.node
        command = [
            REPOSITORY / "scripts" / "serve", node.layout.studies, "--port", self.port, "--dicom-port", node.port,
            "--aet", "CT2PET", "--peers", node.peers, "--conf", "models_folder", node.layout.models_folder,
            "--conf", "device", "cpu", "--conf", "models", "cascade3,unet",
        ]  # fmt: skip
        with node.log.open("ab") as log:
            process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, start_new_session=True)
        try:
            node.wait("node_started")
            yield process
        finally:
            stop_process(process)
            for child in self.processes:
                child.kill()

    @property
    def processes(self) -> list[psutil.Process]:
        """The server and the node."""
        programs = ("monailabel.main", "node_main.py")
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if str(self.node.layout.models_folder) in line and any(program in line for program in programs):
                found += [process] if "serve.py" not in line else []
        return found

    def process(self, program: str) -> psutil.Process:
        """Return the server (`monailabel.main`) or the node (`node_main.py`)."""
        return wait_for(program, lambda: [one for one in self.processes if program in " ".join(one.cmdline())])[0]

    def answers(self) -> bool:
        """Return whether the server answers over HTTP."""
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{self.port}/info/", timeout=30).ok
        return False


@pytest.fixture
def served(tmp_path: Path, require_program: Callable[[str], str]) -> tuple[Served, Orthanc, int]:
    """A server whose rules send to an Orthanc and, on another port, to a storescp; none of them runs yet."""
    orthanc, storescp_port = Orthanc(require_program("Orthanc"), tmp_path / "orthanc"), free_port()
    require_program("storescp")
    rules = RULE.format(when="Modality == 'CT' and KVP > 0", model="cascade3", to="ORTHANC")
    rules += RULE.format(when="Modality != 'PT'", model="cascade3", to="PACS")
    rules += RULE.format(when="Modality == 'MR'", model="cascade3", to="PACS")
    rules += RULE.format(when="Modality == 'CT'", model="unet", to="PACS")
    text = peers_toml(
        receiver_port=storescp_port,
        retry_s=0.1,
        rules=SECOND_PEER.format(name="ORTHANC", port=orthanc.dicom_port) + rules,
    )
    node = Node(tmp_path, free_port(), NodeLayout(tmp_path / "studies", tmp_path / "models"))
    node.layout.studies.mkdir()
    node.peers.write_text(text)
    models = node.layout.models_folder
    save_constant_model(models / "cascade3" / "model.safetensors", SUV)
    limbs = limb_reference()  # it has seen limbs only, and refuses a chest
    save_constant_model(models / "unet" / "model.safetensors", SUV, stages=1, familiarity=limbs)
    return Served(node), orthanc, storescp_port


def test_a_real_ct_comes_back_as_one_pet_whatever_crashes_or_is_away(
    served: tuple[Served, Orthanc, int], shared_data: Path, tmp_path: Path
) -> None:
    (server, orthanc, storescp_port), ct = served, shared_data / "ct_only" / "Lung_Dx-A0001"
    node = server.node
    count = len(list(ct.rglob("*.dcm")))
    with server.running() as script:
        assert node.echo() == 0
        assert node.echo(calling="STRANGER") != 0
        assert node.send(ct).returncode == 0
        server.process("monailabel.main").send_signal(signal.SIGKILL)  # before the series is complete
        node.wait("rule_matched", 3)
        node.wait("synthesised", 2)  # by the server that was started again
        assert node.wait("synthesis_failed")["reason"].startswith("unlike_training_cts: CT ")
        node.wait("transfer_postponed", 2)  # both receivers are away
        server.process("node_main.py").send_signal(signal.SIGKILL)
        node.wait("node_started", 2)
        with orthanc.running(), running_storescp(tmp_path / "archive", storescp_port) as received:
            node.wait("sent", 2)
            assert node.send(ct).returncode == 0  # all of it again: nothing is made or sent again
            assert orthanc.get("/statistics")["CountInstances"] == count  # type: ignore[index]
            assert len(orthanc.get("/series")) == 1  # type: ignore[arg-type]
            uids = received()
            assert len(uids) == len(set(uids)) == count
        wait_for("the server answers", server.answers, timeout_s=START_TIMEOUT_S)
        script.send_signal(signal.SIGTERM)
        assert script.wait(timeout=60) == 0
        assert server.processes == []
    assert node.count("synthesised") == node.count("sent") == 2
    assert node.count("node_stopped") == 1
    _check_the_pet(tmp_path / "archive", ct)
    patient = str(dcmread(next(ct.rglob("*.dcm")), stop_before_pixels=True).PatientName)
    for text in (node.log.read_text(), node.layout.audit.read_text()):
        assert patient not in text


def _check_the_pet(archive: Path, ct: Path) -> None:
    (source,) = scan_folder(ct).usable("CT")
    pets = [dcmread(path) for path in archive.iterdir()]
    assert {pet.SeriesInstanceUID for pet in pets} == {pets[0].SeriesInstanceUID}
    assert {pet.StudyInstanceUID for pet in pets} == {source.series.study_uid}
    assert {pet[SYNTHETIC_DATA].value for pet in pets} == {"YES"}
    for pet in pets:
        values = pet.pixel_array * float(pet.RescaleSlope) + float(pet.RescaleIntercept)
        assert abs(values.max() - SUV) < 0.01 * SUV
