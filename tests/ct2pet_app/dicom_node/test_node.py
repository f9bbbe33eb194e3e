"""A real node against dcmtk's programs: who gets in, what is kept, and what becomes of it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from ct2pet_app.dicom_node.database import QueueDatabase
from lib.phantom.generate import write_phantoms
from tests.ct2pet_app.dicom_node.peers import RULE, Node, peers_toml, run, running_node, wait_for
from tests.ct2pet_app.tiny_studies import TINY, change
from tests.dicom.enhanced import Kind, read_slices, write_multi_frame
from tests.server.processes import free_port

NAME = "Phantom"  # in the PatientName of every phantom


@pytest.fixture(scope="module", autouse=True)
def _dcmtk(require_program: Callable[[str], str]) -> None:
    for program in ("echoscu", "storescu", "storescp"):
        require_program(program)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, patients=2, settings=TINY)
    return folder


def series_folders(folder: Path, modality: str) -> list[Path]:
    folders = sorted({path.parent for path in folder.rglob("*.dcm")})
    return [one for one in folders if dcmread(next(one.glob("*.dcm")), stop_before_pixels=True).Modality == modality]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that all tests of this file share; each sends series of its own."""
    with running_node(tmp_path_factory.mktemp("node"), peers_toml(receiver_port=free_port(), rules=RULE)) as node:
        yield node
        assert node.is_alive()
        for text in (node.log.read_text(), node.layout.audit.read_text()):
            assert NAME not in text
            assert "Traceback" not in text


def copy_of(folder: Path, to: Path, *, number: int, **attributes: Any) -> Path:
    """Return a copy of a series with UIDs of its own."""

    def alter(dataset: Any) -> None:
        dataset.SeriesInstanceUID = f"2.25.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}{dataset.InstanceNumber}"
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return change(folder, alter, to)


def jobs_of(node: Node, series_uid: str) -> list[dict[str, Any]]:
    database = QueueDatabase(node.layout.queue)
    with database.transaction() as connection:
        rows = connection.execute("SELECT * FROM job WHERE series_uid = ?", (series_uid,)).fetchall()
    database.close()
    return [dict(row) for row in rows]


def wait_for_state(node: Node, series_uid: str, event: str) -> dict[str, Any]:
    """Wait for an event of a series and return its line of the audit trail."""
    line: dict[str, Any] = wait_for(
        event, lambda: next((line for line in node.audit(event) if line["series_uid"] == series_uid), None)
    )
    return line


def test_an_echo_is_answered_for_known_titles_only(node: Node) -> None:
    assert node.echo() == 0
    assert node.echo(calling="NOBODY") != 0
    assert node.echo(calling="ARCHIVE") != 0  # a peer that may not send
    assert node.echo(called="OTHER") != 0
    reasons = [line["reason"] for line in node.audit("association_refused")]
    assert "no peer that may send has the AE title 'NOBODY'" in reasons
    assert "called AE title 'OTHER', expected 'CT2PET'" in reasons


def test_a_series_becomes_part_of_the_studies_and_gets_one_job(node: Node, phantoms: Path, tmp_path: Path) -> None:
    ct = copy_of(series_folders(phantoms, "CT")[0], tmp_path / "ct", number=11)
    assert node.send(ct).returncode == 0
    line = wait_for_state(node, "2.25.11", "series_complete")
    assert (line["aet"], line["instances"]) == ("SCANNER", TINY.slices)
    stored = sorted(node.layout.series("2.25.11").glob("*.dcm"))
    assert [path.stem for path in stored] == sorted(f"2.25.11{place}" for place in range(1, TINY.slices + 1))
    assert dcmread(stored[0]) == dcmread(next(ct.glob("*.dcm")).parent / _file_of(ct, stored[0].stem))
    assert wait_for_state(node, "2.25.11", "rule_matched")["model"] == "unet"
    assert node.send(ct).returncode == 0  # once more, from the beginning
    assert [job["state"] for job in jobs_of(node, "2.25.11")] == ["waiting"]
    assert len([line for line in node.audit("series_complete") if line["series_uid"] == "2.25.11"]) == 1


def _file_of(folder: Path, sop_uid: str) -> str:
    return next(
        path.name for path in folder.glob("*.dcm") if dcmread(path, stop_before_pixels=True).SOPInstanceUID == sop_uid
    )


def test_a_failed_series_that_is_sent_again_is_tried_again(node: Node, phantoms: Path, tmp_path: Path) -> None:
    ct = copy_of(series_folders(phantoms, "CT")[0], tmp_path / "ct", number=16)
    assert node.send(ct).returncode == 0
    wait_for_state(node, "2.25.16", "rule_matched")
    database = QueueDatabase(node.layout.queue)
    with database.transaction() as connection:
        connection.execute("UPDATE job SET state = 'failed', reason = 'unlike' WHERE series_uid = '2.25.16'")
    database.close()
    assert node.send(ct).returncode == 0
    wait_for("another attempt", lambda: [job["state"] for job in jobs_of(node, "2.25.16")] == ["waiting"])


@pytest.mark.parametrize("kind", ["enhanced", "legacy"])
def test_multi_frame_and_compressed_cts_are_read(node: Node, phantoms: Path, tmp_path: Path, kind: Kind) -> None:
    slices = read_slices(copy_of(series_folders(phantoms, "CT")[0], tmp_path / "ct", number=30 + len(kind)))
    (file,) = write_multi_frame(slices, tmp_path / kind, kind=kind, rle=kind == "enhanced")
    series_uid = dcmread(file, stop_before_pixels=True).SeriesInstanceUID
    options = ["-R", "-xr", "-aet", "SCANNER", "-aec", "CT2PET"]  # -R: propose what the file needs
    assert run("storescu", *options, "127.0.0.1", node.port, file).returncode == 0
    assert wait_for_state(node, series_uid, "series_complete")["instances"] == 1
    assert len(jobs_of(node, series_uid)) == 1
    (stored,) = node.layout.series(series_uid).iterdir()
    assert dcmread(stored).file_meta.TransferSyntaxUID == dcmread(file).file_meta.TransferSyntaxUID


def test_late_slices_make_another_job(node: Node, phantoms: Path, tmp_path: Path) -> None:
    files = sorted(copy_of(series_folders(phantoms, "CT")[0], tmp_path / "ct", number=12).glob("*.dcm"))
    for path in files:
        assert dcmread(path, stop_before_pixels=True).SeriesInstanceUID == "2.25.12"
    assert node.send(*files[:4]).returncode == 0
    wait_for_state(node, "2.25.12", "series_complete")
    assert node.send(*files[4:]).returncode == 0
    wait_for("a second job", lambda: len(jobs_of(node, "2.25.12")) == 2)
    assert len(list(node.layout.series("2.25.12").glob("*.dcm"))) == len(files)


def test_no_rule_and_no_volume_are_told_apart(node: Node, phantoms: Path, tmp_path: Path) -> None:
    ct = series_folders(phantoms, "CT")[0]
    scout = copy_of(ct, tmp_path / "scout", number=13, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert node.send(scout).returncode == 0
    assert "localizer" in wait_for_state(node, "2.25.13", "series_unusable")["reason"]
    assert jobs_of(node, "2.25.13") == []


@pytest.mark.parametrize(
    ("number", "attributes", "status"),
    [
        (21, {"Modality": "MR"}, "0xA900"),
        (22, {"StudyInstanceUID": ""}, "0xC000"),
        (23, {"SeriesInstanceUID": "../../../tmp/evil"}, "0xC000"),
        (24, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "0xA900"),
    ],
)
def test_what_is_no_ct_is_refused(
    node: Node, phantoms: Path, tmp_path: Path, number: int, attributes: dict[str, Any], status: str
) -> None:
    ct = copy_of(series_folders(phantoms, "CT")[0], tmp_path / "bad", number=number, **attributes)
    file = sorted(ct.glob("*.dcm"))[0]
    dataset = dcmread(file, stop_before_pixels=True)
    assert _store(node, dcmread(file)) == int(status, 16)
    assert [line["status"] for line in node.audit("instance_refused") if line["sop_uid"] == dataset.SOPInstanceUID] == [
        status
    ]
    assert not list(node.layout.received.glob(f"*{number}*"))


def _store(node: Node, dataset: Any) -> int:
    """Store a data set as it is, under the SOP class CT, and return the status; storescu would not send it."""
    from pynetdicom import AE

    entity = AE(ae_title="SCANNER")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", node.port, ae_title="CT2PET")
    assert association.is_established
    claimed, real = "1.2.840.10008.5.1.4.1.1.2", dataset.SOPClassUID
    get_context, association._get_valid_context = association._get_valid_context, None
    association._get_valid_context = lambda _, *rest, **options: get_context(claimed, *rest, **options)
    try:
        dataset.SOPClassUID = real
        return int(association.send_c_store(dataset).Status)
    finally:
        association.release()


def test_another_patient_cannot_join_a_series(node: Node, phantoms: Path, tmp_path: Path) -> None:
    first, second = series_folders(phantoms, "CT")
    assert node.send(copy_of(first, tmp_path / "ours", number=14)).returncode == 0
    wait_for_state(node, "2.25.14", "series_complete")
    before = {path: path.read_bytes() for path in node.layout.series("2.25.14").iterdir()}
    assert node.send(copy_of(second, tmp_path / "theirs", number=14)).returncode != 0
    assert {path: path.read_bytes() for path in node.layout.series("2.25.14").iterdir()} == before


def test_a_changed_instance_does_not_replace_the_stored_one(node: Node, phantoms: Path, tmp_path: Path) -> None:
    ct = series_folders(phantoms, "CT")[0]
    assert node.send(copy_of(ct, tmp_path / "ours", number=15)).returncode == 0
    changed = copy_of(ct, tmp_path / "changed", number=15, SeriesDescription="changed")
    assert node.send(changed).returncode != 0
    assert {line["reason"] for line in node.audit("instance_refused") if line.get("series_uid") == "2.25.15"} == {
        "another instance with this UID is stored"
    }


def test_other_sop_classes_are_not_negotiated(node: Node, phantoms: Path) -> None:
    pet = series_folders(phantoms, "PT")[0]
    result = node.send(pet)
    assert result.returncode != 0
    assert "presentation context" in (result.stderr + result.stdout).lower()
    assert not list(node.layout.received.rglob(f"{dcmread(next(pet.glob('*.dcm'))).SOPInstanceUID}.dcm"))


def test_a_peer_that_announces_gigabytes_or_never_ends_a_pdu_holds_up_nobody(node: Node) -> None:
    with (
        socket.create_connection(("127.0.0.1", node.port)) as huge,
        socket.create_connection(("127.0.0.1", node.port)) as slow,
    ):
        slow.sendall(b"\x01\x00\x00")
        huge.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1) + b"\0" * 100)
        assert node.echo() == 0
        huge.settimeout(10)
        assert huge.recv(100) == b""  # closed
    wait_for(
        "the refusal in the trail",
        lambda: any(
            f"a PDU of {2**32 - 1} bytes" in line.get("reason", "") for line in node.audit("association_refused")
        ),
    )


def test_a_second_node_on_the_same_folders_is_refused(node: Node) -> None:
    second = Node(node.folder, free_port(), node.layout)
    second.start()
    assert second.process is not None and second.process.wait() == 2
    assert "another DICOM node uses this models folder" in node.log.read_text()
