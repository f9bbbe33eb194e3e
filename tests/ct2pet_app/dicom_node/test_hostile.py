"""Mutated associations, kills, a full disk and a receiver that is away: the node goes on, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread

from ct2pet_app.dicom_node.database import QueueDatabase
from ct2pet_app.dicom_node.delivery import result_file
from ct2pet_app.dicom_node.jobs import Job, JobQueue
from lib.dicom.network.tls import TlsFiles, client_context, server_context
from lib.errors import InputError
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.dicom_node.mutations import associated, mutated, recorded, replay
from tests.ct2pet_app.dicom_node.peers import RULE, Node, peers_toml, running_node, running_storescp, wait_for
from tests.ct2pet_app.tiny_studies import TINY
from tests.server.processes import free_port

MUTATIONS = 50


@pytest.fixture(scope="module", autouse=True)
def _dcmtk(require_program: Callable[[str], str]) -> None:
    for program in ("echoscu", "storescu", "storescp"):
        require_program(program)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a phantom's series by modality."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantoms(folder, patients=1, settings=TINY)
    folders = {path.parent for path in folder.rglob("*.dcm")}
    return {dcmread(next(one.glob("*.dcm")), stop_before_pixels=True).Modality: one for one in folders}


@pytest.fixture
def receiver_port() -> int:
    return free_port()


@pytest.fixture
def node(tmp_path: Path, receiver_port: int) -> Iterator[Node]:
    with running_node(tmp_path / "node", peers_toml(receiver_port=receiver_port, rules=RULE)) as node:
        yield node


def make(node: Node, pet: Path) -> Job:
    """Do the server's part for the next job: put its result into the outbox."""
    database = QueueDatabase(node.layout.queue)
    jobs = JobQueue(database)
    job: Job = wait_for("a job", jobs.begin)
    with zipfile.ZipFile(result_file(node.layout.outbox, job), "w") as result:
        for number, path in enumerate(sorted(pet.glob("*.dcm")), start=1):
            result.write(path, f"{number:04d}.dcm")
    jobs.made(job, "2.25.1")
    database.close()
    return job


def uids_in(folder: Path) -> set[str]:
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.iterdir()}


def test_mutated_associations_leave_the_node_alive(node: Node, study: dict[str, Path]) -> None:
    dataset = dcmread(next(study["CT"].glob("*.dcm")))
    pdus = recorded(node.port, dataset)
    assert len(pdus) > 3
    process = psutil.Process(node.process.pid if node.process else 0)
    before_mb = process.memory_info().rss / 2**20
    for association in mutated(pdus, MUTATIONS):
        replay(node.port, association)
        assert node.is_alive()
    assert node.echo() == 0
    assert process.memory_info().rss / 2**20 < before_mb + 100
    wait_for("connections end", lambda: not _connections(process))
    assert "a thread has failed" not in node.log.read_text()
    # a mutation may be harmless; what was kept is a CT of a valid UID
    for path in node.layout.received.rglob("*.dcm"):
        if ".incoming" not in str(path):
            assert dcmread(path, stop_before_pixels=True).Modality == "CT"
    assert node.send(study["CT"]).returncode == 0


def _connections(process: psutil.Process) -> list[object]:
    return [one for one in process.net_connections("tcp") if one.status not in (psutil.CONN_LISTEN, psutil.CONN_NONE)]


def test_a_node_killed_while_it_receives_loses_nothing_that_it_confirmed(node: Node, study: dict[str, Path]) -> None:
    files = sorted(study["CT"].glob("*.dcm"))
    assert node.send(*files[:3]).returncode == 0
    node.kill()
    node.start()
    assert node.send(*files).returncode == 0
    assert node.wait("series_complete")["instances"] == len(files)
    series_uid = node.audit("series_complete")[-1]["series_uid"]
    assert uids_in(node.layout.series(series_uid)) == uids_in(study["CT"])


def test_a_result_reaches_a_receiver_that_was_away_once_although_the_node_was_killed(
    node: Node, study: dict[str, Path], tmp_path: Path, receiver_port: int
) -> None:
    assert node.send(study["CT"]).returncode == 0
    job = make(node, study["PT"])
    reason = node.wait("transfer_postponed")["reason"]
    assert "PACS (ARCHIVE at 127.0.0.1" in reason and "switched off, unreachable" in reason
    with running_storescp(tmp_path / "slow", receiver_port, "--sleep-after", "1") as received:
        wait_for("some instances", lambda: len(received()) >= 2)
        node.kill()
        first = received()
    node.start()
    with running_storescp(tmp_path / "archive", receiver_port) as received:
        assert node.wait("sent")["instances"] == TINY.slices
        second = received()
    assert set(first) | set(second) == uids_in(study["PT"])
    assert len(set(first) & set(second)) <= 1  # the one whose confirmation the killed node had not recorded
    assert len(second) == len(set(second)) < TINY.slices
    assert not result_file(node.layout.outbox, job).exists()
    assert node.count("sent") == 1


def test_a_receiver_that_refuses_gets_the_result_when_it_no_longer_does(
    node: Node, study: dict[str, Path], tmp_path: Path, receiver_port: int
) -> None:
    assert node.send(study["CT"]).returncode == 0
    make(node, study["PT"])
    with running_storescp(tmp_path / "refusing", receiver_port, "--refuse"):
        reasons = lambda: " ".join(line["reason"] for line in node.audit("transfer_postponed"))  # noqa: E731
        wait_for("the refusal", lambda: "rejects the association; it has to know the AE title CT2PET" in reasons())
    with running_storescp(tmp_path / "archive", receiver_port):
        node.wait("sent")


def test_what_exceeds_a_limit_is_refused(study: dict[str, Path], tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in study["CT"].glob("*.dcm"))
    node_limits = f"quota_gb = {size / 2e9 + 1e-4}\nmax_instance_mb = 1\nmax_associations = 1"
    text = peers_toml(receiver_port=free_port(), node=node_limits, rules=RULE)  # with the queue
    with running_node(tmp_path / "node", text) as node:
        (node.layout.received / "other").write_bytes(b"0" * 100_000)
        refused = node.send(study["CT"])
        assert refused.returncode != 0
        assert "OutOfResources" in refused.stderr + refused.stdout  # dcmtk's words for 0xA700
        assert "disk quota" in node.wait("instance_refused")["reason"]
        huge = dcmread(next(study["CT"].glob("*.dcm")))
        huge.Rows, huge.Columns, huge.PixelData = 1024, 1024, b"\0" * 2**21
        huge.save_as(tmp_path / "huge.dcm")
        assert node.send(tmp_path / "huge.dcm").returncode != 0
        assert node.wait("association_ended")["reason"] == "a data set of more than 1000000 bytes"
        wait_for("the partial file is removed", lambda: not list(node.layout.incoming.iterdir()))
        with associated(node.port):
            assert node.echo() != 0
        assert node.audit("association_refused")[-1]["reason"] == "as many associations as allowed are active"
        assert node.echo() == 0


def test_a_sender_is_asked_whether_the_series_is_complete(study: dict[str, Path], tmp_path: Path) -> None:
    files, port = sorted(study["CT"].glob("*.dcm")), free_port()
    text = peers_toml(receiver_port=port, sender="confirm_count = true", rules=RULE)
    peer = _find_scp(port, dcmread(files[0], stop_before_pixels=True), count=len(files))
    with peer as asked, running_node(tmp_path / "node", text) as node:
        assert node.send(*files[:4]).returncode == 0
        wait_for("two questions", lambda: len(asked) >= 2)
        assert node.count("series_complete") == 0
        assert [line["reason"] for line in node.audit("series_waits")] == [f"4 of {len(files)} instances have arrived"]
        assert node.send(*files[4:]).returncode == 0
        assert node.wait("series_complete")["instances"] == len(files)


def _find_scp(port: int, header: object, *, count: int):  # type: ignore[no-untyped-def]
    """Return a context with a peer that answers C-FIND; it yields the list of questions."""
    import contextlib

    from pydicom.dataset import Dataset
    from pynetdicom import AE, evt

    asked: list[str] = []

    def answer(event):  # type: ignore[no-untyped-def]
        asked.append(str(event.identifier.SeriesInstanceUID))
        found = Dataset()
        found.QueryRetrieveLevel = "SERIES"
        found.SeriesInstanceUID, found.NumberOfSeriesRelatedInstances = header.SeriesInstanceUID, str(count)  # type: ignore[attr-defined]
        yield 0xFF00, found

    @contextlib.contextmanager
    def running():  # type: ignore[no-untyped-def]
        entity = AE(ae_title="SCANNER")
        entity.add_supported_context("1.2.840.10008.5.1.4.1.2.2.1")
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
        try:
            yield asked
        finally:
            server.shutdown()

    return running()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with an authority, certificates that it signs for a node and a peer, and one of a stranger."""
    folder = tmp_path / "tls"
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.crt",
        )  # fmt: skip
    for name in ("node", "peer"):
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "a.csr"
        )
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
        openssl(
            "x509", "-req", "-in", "a.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "san", "-out", f"{name}.crt",
        )  # fmt: skip
    return folder


def test_with_tls_only_peers_with_a_certificate_get_in(
    certificates: Path, study: dict[str, Path], tmp_path: Path, receiver_port: int
) -> None:
    named = {name: certificates / name for name in ("node.crt", "node.key", "ca.crt")}
    tls = '[tls]\ncertificate = "{node.crt}"\nkey = "{node.key}"\nca = "{ca.crt}"'
    for name, path in named.items():
        tls = tls.replace(f"{{{name}}}", str(path))
    text = peers_toml(receiver_port=receiver_port, tls=tls, sender="tls = true", rules="tls = true\n" + RULE)
    options = {
        name: ["+tls", str(certificates / f"{name}.key"), str(certificates / f"{name}.crt")]
        for name in ("peer", "stranger")
    }
    trusted = ["+cf", str(certificates / "ca.crt")]
    with running_node(tmp_path / "node", text) as node:
        with socket.create_connection(("127.0.0.1", node.port)):  # never begins its handshake
            assert node.echo() != 0  # without TLS
            node.tls = options["stranger"] + trusted
            assert node.echo() != 0
            node.tls = options["peer"] + trusted
            assert node.echo() == 0
            assert node.send(study["CT"]).returncode == 0
        make(node, study["PT"])
        with _tls_storescp(tmp_path / "archive", receiver_port, [*options["peer"], *trusted]):
            node.wait("sent")
    assert uids_in(tmp_path / "archive") == uids_in(study["PT"])


def test_invalid_tls_files_are_named(certificates: Path) -> None:
    files = TlsFiles(certificates / "node.crt", certificates / "node.key", certificates / "ca.crt")
    cases = [
        (replace(files, key=certificates / "peer.key"), "node.crt and peer.key: not a certificate and its private key"),
        (replace(files, key=certificates / "none.key"), "node.crt and none.key: not a certificate and its private key"),
        (replace(files, authority=certificates / "san"), "san: no certificates in PEM format"),
    ]
    for wrong, message in cases:
        with pytest.raises(InputError, match=re.escape(message)):
            server_context(wrong)
    files.key.chmod(0o644)
    with pytest.raises(InputError, match=r"node\.key: users other than its owner can read .* \(mode 644\)"):
        client_context(files)


def _tls_storescp(folder: Path, port: int, options: list[str]):  # type: ignore[no-untyped-def]
    import contextlib

    from tests.server.processes import stop_process

    @contextlib.contextmanager
    def running():  # type: ignore[no-untyped-def]
        folder.mkdir()
        process = subprocess.Popen(
            [str(shutil.which("storescp")), "-aet", "ARCHIVE", "-od", str(folder), *options, str(port)],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ),
        )  # fmt: skip
        try:
            yield
        finally:
            stop_process(process)

    return running()
