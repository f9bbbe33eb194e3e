"""The real server on phantoms: a challenger made worse on purpose, versions, rolling back, who may."""

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
# half of the patients validate, so that there is somebody to judge by; the network is that of the constant model
TINY = "pixel_mm=12.8;depth=1;context_slices=1;normalization=none;epochs=4;validation=0.5;test=0.0;workers=0"
TRAIN_TIMEOUT_S = 600.0  # on a machine that does other things, too


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
    """The checksum of version 1, which draws 1 SUV everywhere, near the phantoms' mean."""
    path = save_constant_model(tmp_path_factory.mktemp("model") / "unet.safetensors", 1.0, stages=1)
    answer = server.ask("PUT", "/model/unet", files={"file": path.read_bytes()}).json()
    assert answer["version"] == 1
    return str(answer["checksum"])


@pytest.fixture(scope="module")
def worse(server: RunningServer, first: str) -> dict[str, Any]:
    """The task of a training that began there, with a learning rate that ruins any network."""
    asked = {"max_epochs": 1, "learning_rate": 30.0}
    answer = server.ask("POST", "/train/unet", json=asked)
    assert answer.status_code == 200, answer.text
    return server.wait_for_training(timeout_s=TRAIN_TIMEOUT_S)


def model(server: RunningServer) -> dict[str, Any]:
    told: dict[str, Any] = server.json("/ct2pet/models/unet")
    return told


def drawn_by(server: RunningServer, ct_uid: str) -> tuple[int, str]:
    """Return version and checksum of the answer to an inference."""
    told = server.infer("unet", image=ct_uid, output="json").json()["model"]
    return told["version"], told["checksum"]


def test_a_challenger_made_worse_is_not_published_and_the_answer_says_why(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    assert worse["status"] == "DONE", worse
    assert (worse["published"], worse["version"]) == (False, 2)
    words = "version 2 is kept, but not served; version 1 stays. It is worse than version 1 in "
    assert worse["verdict"].startswith(words)
    assert any(words in line for line in worse["details"][-2:])  # the last is MONAI Label's own
    assert server.json("/info/")["train_stats"]["unet"]["verdict"] == worse["verdict"]
    versions = model(server)["versions"]
    assert [(version["served"], version["parent"]) for version in versions] == [(True, None), (False, 1)]
    assert set(versions[1]["card"]["figures"]) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert drawn_by(server, ct_uid) == (1, first)


def test_a_kept_version_is_served_in_so_many_words_and_rolled_back(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    checksums = [version["checksum"] for version in model(server)["versions"]]
    assert checksums[0] == first
    assert server.ask("POST", "/ct2pet/models/unet/serve", json={"version": 2}).json()["served"] == 2
    assert drawn_by(server, ct_uid) == (2, checksums[1])
    assert server.json("/info/")["models"]["unet"]["version"] == 2
    assert server.ask("POST", "/ct2pet/models/unet/rollback").json()["served"] == 1
    assert drawn_by(server, ct_uid) == (1, checksums[0])
    assert [line["action"] for line in model(server)["history"]][-2:] == ["served", "rolled back"]


def test_a_request_that_names_a_version_is_drawn_with_it_and_the_headers_say_so(
    server: RunningServer, first: str, worse: dict[str, Any], ct_uid: str
) -> None:
    before = model(server)
    checksums = {version["version"]: version["checksum"] for version in before["versions"]}
    for output in ("image", "json", "all"):
        answer = server.infer("unet", image=ct_uid, output=output, params='{"version": 2}')
        named = [answer.headers[f"X-CT2PET-{name}"] for name in ("Model", "Version", "Checksum")]
        assert named == ["unet", "2", checksums[2]], output
    zipped = server.ask("POST", f"/ct2pet/dicom/unet?image={ct_uid}&version=2")
    assert (zipped.status_code, zipped.headers["X-CT2PET-Version"]) == (200, "2")
    told = server.infer("unet", image=ct_uid, output="json", params='{"version": 2}').json()["model"]
    assert (told["version"], told["checksum"]) == (2, checksums[2])
    assert server.infer("unet", image=ct_uid, output="image").headers["X-CT2PET-Checksum"] == first
    assert model(server) == before  # what is served, and its history
    refused = server.infer("unet", image=ct_uid, params='{"version": 9}')
    assert (refused.status_code, "unet has no version 9; known are 1, 2" in refused.text) == (404, True)
    assert server.infer("unet", image=ct_uid, params='{"version": "second"}').status_code == 400
    assert server.ask("POST", f"/ct2pet/dicom/unet?image={ct_uid}&version=9").status_code == 404


def test_an_uploaded_model_is_a_version_and_its_download_can_be_brought_again(
    server: RunningServer, first: str, ct_uid: str, tmp_path: Path
) -> None:
    before = drawn_by(server, ct_uid)
    downloaded = server.ask("GET", "/model/unet").content
    brought = save_constant_model(tmp_path / "unet.safetensors", 2.0, stages=1)
    answer = server.ask("PUT", "/model/unet", files={"file": brought.read_bytes()}).json()
    assert drawn_by(server, ct_uid) == (answer["version"], answer["checksum"])
    assert model(server)["versions"][-1]["origin"] == "uploaded"
    again = server.ask("PUT", "/model/unet", files={"file": downloaded}).json()
    assert (again["version"], again["checksum"]) == before
    other = save_constant_model(tmp_path / "other.safetensors", 2.0, stages=3).read_bytes()
    refused = server.ask("PUT", "/model/unet", files={"file": other})
    assert (refused.status_code, "holds 3 stage(s), unet has 1" in refused.json()["detail"]) == (400, True)
    assert drawn_by(server, ct_uid) == before


def test_all_models_are_listed(server: RunningServer) -> None:
    assert [told["model"] for told in server.json("/ct2pet/models")] == ["unet", "cascade3"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
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
        ("cascade3/rollback", {}, 400, "no version was served before"),
    ],
)
def test_a_wrong_word_is_refused_with_the_way_out(
    server: RunningServer, first: str, path: str, body: Any, status: int, words: str
) -> None:
    answer = server.ask("POST", f"/ct2pet/models/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert words in str(answer.json()["detail"])


def test_an_unknown_model_is_not_found(server: RunningServer) -> None:
    assert server.ask("GET", "/ct2pet/models/unett").status_code == 404
