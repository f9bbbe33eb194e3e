"""Retraining on the real server with phantoms: a deliberately worse candidate, versions, rollback, invalid requests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=4, ct_matrix=32, ct_pixel_mm=12.8, pet_matrix=32, pet_pixel_mm=12.8)
# half of the patients are for validation, so that models can be compared; the network is that of the constant model
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none;epochs=4;validation=0.5;test=0.0;workers=0"
TRAIN_TIMEOUT_S = 600.0  # generous, for a busy machine


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=8, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    conf = {"models": "unet,cascade3", "width": "2", "set": TINY}
    with running_server("ct2pet_app", studies, tmp_path_factory.mktemp("server"), **conf) as running:
        yield running


@pytest.fixture(scope="module")
def ct_uid(studies: Path) -> str:
    return scan_folder(studies).usable("CT")[0].series.uid


@pytest.fixture(scope="module")
def first(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checksum of version 1, which predicts 1 SUV everywhere, near the phantoms' mean."""
    path = save_constant_model(tmp_path_factory.mktemp("model") / "unet.safetensors", 1.0, stages=1)
    response = server.request("PUT", "/model/unet", files={"file": path.read_bytes()}).json()
    assert response["version"] == 1
    return str(response["checksum"])


@pytest.fixture(scope="module")
def worse(server: RunningServer, first: str) -> dict[str, Any]:
    """The ended training task of version 2, with a learning rate that ruins any network."""
    settings = {"max_epochs": 1, "learning_rate": 30.0}
    response = server.request("POST", "/train/unet", json=settings)
    assert response.status_code == 200, response.text
    return server.wait_for_training(timeout_s=TRAIN_TIMEOUT_S)


def model(server: RunningServer) -> dict[str, Any]:
    details: dict[str, Any] = server.json("/ct2pet/models/unet")
    return details


def served_model(server: RunningServer, ct_uid: str) -> tuple[int, str]:
    """Return version and checksum of the model that an inference uses."""
    details = server.infer("unet", image=ct_uid, output="json").json()["model"]
    return details["version"], details["checksum"]


def test_a_worse_candidate_is_not_published_and_the_task_reports_why(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    assert worse["status"] == "DONE", worse
    assert (worse["published"], worse["version"]) == (False, 2)
    message = "version 2 is kept, but not served; version 1 stays. Worse than version 1: "
    assert worse["verdict"].startswith(message)
    assert any(message in line for line in worse["details"][-2:])  # the last line is MONAI Label's own
    assert server.json("/info/")["train_stats"]["unet"]["verdict"] == worse["verdict"]
    versions = model(server)["versions"]
    assert [(version["served"], version["parent"]) for version in versions] == [(True, None), (False, 1)]
    assert set(versions[1]["card"]["figures"]) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert served_model(server, ct_uid) == (1, first)


def test_a_version_can_be_served_explicitly_and_rolled_back(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    checksums = [version["checksum"] for version in model(server)["versions"]]
    assert checksums[0] == first
    assert server.request("POST", "/ct2pet/models/unet/serve", json={"version": 2}).json()["served"] == 2
    assert served_model(server, ct_uid) == (2, checksums[1])
    assert server.json("/info/")["models"]["unet"]["version"] == 2
    assert server.request("POST", "/ct2pet/models/unet/rollback").json()["served"] == 1
    assert served_model(server, ct_uid) == (1, checksums[0])
    assert [line["action"] for line in model(server)["history"]][-2:] == ["served", "rolled back"]


def test_a_request_uses_the_version_that_it_names_and_the_headers_report_it(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    before = model(server)
    checksums = {version["version"]: version["checksum"] for version in before["versions"]}
    for output in ("image", "json", "all"):
        response = server.infer("unet", image=ct_uid, output=output, params='{"version": 2}')
        named = [response.headers[f"X-CT2PET-{name}"] for name in ("Model", "Version", "Checksum")]
        assert named == ["unet", "2", checksums[2]], output
    zipped = server.request("POST", f"/ct2pet/dicom/unet?image={ct_uid}&version=2")
    assert (zipped.status_code, zipped.headers["X-CT2PET-Version"]) == (200, "2")
    details = server.infer("unet", image=ct_uid, output="json", params='{"version": 2}').json()["model"]
    assert (details["version"], details["checksum"]) == (2, checksums[2])
    assert server.infer("unet", image=ct_uid, output="image").headers["X-CT2PET-Checksum"] == first
    assert model(server) == before  # the served version and its history
    refused = server.infer("unet", image=ct_uid, params='{"version": 9}')
    assert (refused.status_code, "unet has no version 9; known are 1, 2" in refused.text) == (404, True)
    assert server.infer("unet", image=ct_uid, params='{"version": "second"}').status_code == 400
    assert server.request("POST", f"/ct2pet/dicom/unet?image={ct_uid}&version=9").status_code == 404


def test_an_uploaded_model_becomes_a_version_and_a_downloaded_model_can_be_uploaded_again(
    server: RunningServer, first: str, ct_uid: str, tmp_path: Path
) -> None:
    before = served_model(server, ct_uid)
    downloaded = server.request("GET", "/model/unet").content
    uploaded = save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1)
    response = server.request("PUT", "/model/unet", files={"file": uploaded.read_bytes()}).json()
    assert served_model(server, ct_uid) == (response["version"], response["checksum"])
    assert model(server)["versions"][-1]["origin"] == "uploaded"
    again = server.request("PUT", "/model/unet", files={"file": downloaded}).json()
    assert (again["version"], again["checksum"]) == before
    other = save_constant_model(tmp_path / "other.safetensors", 2.0, stages=3).read_bytes()
    refused = server.request("PUT", "/model/unet", files={"file": other})
    assert (refused.status_code, "holds 3 stage(s), unet has 1" in refused.json()["detail"]) == (400, True)
    assert served_model(server, ct_uid) == before


def test_all_models_are_listed(server: RunningServer) -> None:
    assert [entry["model"] for entry in server.json("/ct2pet/models")] == ["unet", "cascade3"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("unett/rollback", {"version": 1}, 404, "did you mean unet"),
        ("..%2Fcascade3/rollback", {"version": 1}, 404, ""),
        ("unet/serve", {"version": 99}, 404, "unet has no version 99; known are 1"),
        ("unet/serve", {"version": "../1"}, 400, "a whole number from 1, found"),
        ("unet/serve", {"version": "1"}, 400, "a whole number"),
        ("unet/serve", {"version": True}, 400, "a whole number"),
        ("unet/serve", {"version": -1}, 400, "a whole number"),
        ("unet/serve", {"versions": 1}, 400, "a whole number"),
        ("unet/serve", {}, 400, "a whole number"),
        ("unet/rollback", {"version": 1.0}, 400, "a whole number"),
        ("unet/rollback", ["1"], 422, ""),
        ("cascade3/rollback", {}, 400, "cascade3: no version "),
    ],
)
def test_an_invalid_version_request_is_refused_with_advice(
    server: RunningServer, first: str, path: str, body: Any, status: int, message: str
) -> None:
    response = server.request("POST", f"/ct2pet/models/{path}", json=body)
    assert response.status_code == status, response.text
    assert message in str(response.json()["detail"])


def test_an_unknown_model_is_not_found(server: RunningServer) -> None:
    assert server.request("GET", "/ct2pet/models/unett").status_code == 404


def test_cross_validated_training_uses_all_patients_and_judges_each_out_of_fold(
    server: RunningServer, ct_uid: str
) -> None:
    refused = server.request("POST", "/train/cascade3", json={"folds": 1})
    assert refused.status_code == 400
    assert "folds: expected 0 for none, or 2 to 32, found 1" in refused.json()["detail"]
    assert server.json("/info/")["trainers"]["cascade3"]["config"]["folds"] == 10
    response = server.request("POST", "/train/cascade3", json={"folds": 2, "max_epochs": 1})
    assert response.status_code == 200, response.text
    assert server.wait_for_training(timeout_s=TRAIN_TIMEOUT_S)["status"] == "DONE"
    details = server.json("/ct2pet/models/cascade3")
    assert "8 patients" in details["versions"][0]["verdict"]["verdict"], details["versions"][0]
    status = server.json("/ct2pet/training?model=cascade3")
    assert [epoch["epoch"] for epoch in status["epochs"]] == [1, 2]  # one of each network
    assert status["finished"] and status["version"] == 1
