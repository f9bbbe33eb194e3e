"""New pairs on the real server: a PET that arrives in the folder, and a CT and PET that are uploaded."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.server.processes import RunningServer, running_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

TINY = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """The folders of two phantoms; the first one's PET and the second one are not in the studies."""
    return write_phantoms(tmp_path_factory.mktemp("patients"), patients=2, settings=TINY)


@pytest.fixture(scope="module")
def studies(patients: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    (patients[0] / "CT").rename(folder / "CT")
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server("ct2pet_app", studies, tmp_path_factory.mktemp("server"), models="unet", width="2") as running:
        yield running


def pairs_when(server: RunningServer, result: str) -> list[dict[str, Any]]:
    """Poll the pairs until every check has that result, and return them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        pairs: list[dict[str, Any]] = server.json("/ct2pet/pairs")
        if pairs and all(pair["check"]["result"] == result and pair["side"] for pair in pairs):
            return pairs
        time.sleep(0.3)
    pytest.fail(f"not {result}: {server.json('/ct2pet/pairs')}\n{server.log.read_text()[-2000:]}")


def zip_of(*folders: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for folder in folders:
            for file in sorted(folder.glob("*.dcm")):
                archive.writestr(f"{folder.name}/{file.name}", file.read_bytes())
    return packed.getvalue()


def test_a_pet_added_to_the_folder_forms_a_pair(
    server: RunningServer, studies: Path, patients: tuple[Path, ...]
) -> None:
    assert server.json("/datastore/")["pairs"]["total"] == 0
    (patients[0] / "PET").rename(studies / "PET")
    (pair,) = pairs_when(server, "plausible")
    (ct,) = scan_folder(studies).usable("CT")
    assert (pair["patient_id"], pair["ct_series_instance_uid"]) == ("PHANTOM_0001", ct.series.uid)
    assert (pair["side"], pair["side_decided_by"]) == ("train", "hash: validation 0.1 test 0.2 offset 0 salt ct2pet")
    expected = {"total": 1, "plausible": 1, "implausible": 0, "unchecked": 0, "train": 1, "validation": 0, "test": 0}
    status = server.json("/datastore/")
    assert (status["pairs"], status["completed"], status["label_tags"]) == (expected, 1, {"final": 1})
    assert server.json("/info/")["datastore"]["pairs"] == expected
    assert "PHANTOM_0001,train," in (server.models / "split.csv").read_text(encoding="utf-8-sig")


def test_an_upload_is_kept_once(server: RunningServer, studies: Path, patients: tuple[Path, ...]) -> None:
    files = {
        field: (f"Doe^Jane {field}.zip", zip_of(patients[1] / name)) for field, name in (("ct", "CT"), ("pet", "PET"))
    }
    responses = [server.request("POST", "/ct2pet/pairs", files=files) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200], responses[0].text
    first, second = (response.json() for response in responses)
    assert (first["patient_id"], first["side"], first["check"]["result"]) == ("PHANTOM_0002", "test", "plausible")
    assert (list(first["added_instances"].values()), second["added_instances"]) == ([6, 6], {})
    assert len(list(studies.rglob("*.dcm"))) == 24
    assert len(pairs_when(server, "plausible")) == 2
    assert "Doe" not in server.log.read_text()


def test_an_upload_that_fails_the_checks_is_refused_unless_forced(
    server: RunningServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder,) = write_phantoms(tmp_path_factory.mktemp("third"), patients=1, seed=5, settings=TINY)
    for file in (folder / "PET").iterdir():
        dataset = dcmread(file)
        dataset.RescaleSlope = float(f"{float(dataset.RescaleSlope) * 1000:.8g}")
        dataset.save_as(file)
    files = {"study": ("study.zip", zip_of(folder / "CT", folder / "PET"))}
    refused = server.request("POST", "/ct2pet/pairs", files=files)
    assert refused.status_code == 400
    assert "median SUV in the body is" in refused.json()["detail"] and "despite_checks=true" in refused.json()["detail"]
    assert server.json("/datastore/")["pairs"]["total"] == 2
    taken = server.request("POST", "/ct2pet/pairs", files=files, data={"despite_checks": "true"})
    assert (taken.status_code, taken.json()["check"]["result"]) == (200, "accepted")
    assert server.json("/datastore/")["pairs"]["plausible"] == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ct": ("ct.zip", b"x")}, "found ct: send ct and pet"),
        ({"study": ("study.zip", b"x")}, "study.zip: cannot be unpacked"),
        ({"pet": ("pet.zip", zip_of())}, "0 usable PET series, expected 1; found no DICOM series"),
    ],
)
def test_an_invalid_upload_is_refused_with_advice(server: RunningServer, files: dict[str, Any], message: str) -> None:
    response = server.request("POST", "/ct2pet/pairs", files=files)
    assert response.status_code == 400
    assert message in response.json()["detail"]


def test_accepting_an_unknown_pair_is_not_found(server: RunningServer) -> None:
    response = server.request("POST", "/ct2pet/pairs/..%2f..%2fetc/accept")
    assert response.status_code == 404
