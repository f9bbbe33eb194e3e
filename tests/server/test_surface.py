"""One request to every endpoint of the running server: a meaningful response, or an error that says what to do.

The server has three phantoms, the third without its PET; its unet predicts 2 SUV everywhere.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import write_volume_file
from lib.imaging.geometry import Geometry
from lib.imaging.volume import Unit, Volume
from lib.metrics.calibration import Calibration
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.error_codes import check_problem
from tests.server.endpoint_requests import TABLE, fill_placeholders
from tests.server.processes import REPOSITORY, RunningServer, running_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
TASK_TIMEOUT_S = 240.0
TESTED_SEPARATELY = (("delete", "/train/"), ("get", "/logs/gpu"))  # they have their own tests


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=3, settings=SMALL)
    shutil.rmtree(folder / "PHANTOM_0003" / "PET")
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    model = folder / "models" / "unet" / "model.safetensors"
    save_constant_model(model, 2.0, stages=1, trained_on=["PHANTOM_0001"], calibration=CURVE)
    conf = {"models": "unet,cascade3"}
    with running_server("ct2pet_app", studies, folder, cwd=REPOSITORY, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def placeholders(server: RunningServer, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The values of the placeholders in the table."""
    report = scan_folder(studies)
    ct, _, alone = (found.series.uid for found in report.usable("CT"))
    pet = report.usable("PT")[0].series.uid
    volume = tmp_path_factory.mktemp("upload") / "ct.nrrd"
    hu = np.linspace(-1000, 200, 8 * 16 * 16, dtype=np.float32).reshape(8, 16, 16)
    write_volume_file(Volume(hu, Geometry((8, 16, 16), np.diag([5.0, 5.0, 5.0, 1.0])), Unit.HU), volume)
    response = server.request("PUT", "/session/", files={"files": ("ct.nrrd", volume.read_bytes())})
    assert response.status_code == 200, response.text
    return {
        "ct": ct,
        "pet": pet,
        "alone": alone,
        "session": response.json()["session_id"],
        "volume": volume.read_bytes(),
    }


def wait_for_task(server: RunningServer, path: str) -> dict[str, Any]:
    """Wait until the newest task has ended and return it."""
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while time.monotonic() < deadline:
        task: dict[str, Any] = server.json(path)
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.3)
    pytest.fail(f"{path} is still running after {TASK_TIMEOUT_S:.0f} s: {server.json(path)}")


@pytest.fixture(scope="module")
def responses(server: RunningServer, placeholders: dict[str, Any]) -> list[requests.Response]:
    """The responses to all rows of the table, sent in order."""
    found = []
    for method, path, sent, _, _ in TABLE:
        for placeholder in ("ct", "pet", "alone", "session"):
            path = path.replace(f"{{{placeholder}}}", placeholders[placeholder])
        found.append(server.request(method, path, **fill_placeholders(sent, placeholders)))
    return found


@pytest.mark.parametrize(
    "row", range(len(TABLE)), ids=[f"{method} {path} {n}" for n, (method, path, *_) in enumerate(TABLE)]
)
def test_each_endpoint_responds_as_expected(
    responses: list[requests.Response], placeholders: dict[str, Any], row: int
) -> None:
    *_, status, expected_text = TABLE[row]
    for placeholder in ("ct", "pet", "alone"):
        expected_text = expected_text.replace(f"{{{placeholder}}}", placeholders[placeholder])
    response = responses[row]
    assert response.status_code == status, response.text[:500]
    assert any(part in response.text for part in expected_text.split("|")), response.text[:500]
    assert "Traceback" not in response.text and "/site-packages/" not in response.text
    if status >= 400 and TABLE[row][0] != "HEAD":
        check_problem(response)


def test_the_table_covers_every_endpoint_of_the_openapi_description(server: RunningServer) -> None:
    routes = server.json("/openapi.json")["paths"]
    elsewhere = re.compile(r"/ct2pet/(models|pairs|split|studies)|/auth")
    for path, methods in routes.items():
        pattern = re.compile(re.sub(r"\{[^}]*\}", "[^?]+", path) + r"(\?.*)?$")
        for method in methods:
            is_listed = any(row[0] == method.upper() and pattern.match(row[1]) for row in TABLE)
            assert is_listed or elsewhere.match(path) or (method, path) in TESTED_SEPARATELY, f"{method} {path}"


def test_stopping_without_a_training_is_not_a_server_error(server: RunningServer) -> None:
    assert server.request("DELETE", "/train/").status_code < 500


def test_the_gpu_log_without_a_graphics_card_is_not_found(server: RunningServer) -> None:
    response = server.request("GET", "/logs/gpu")
    has_card = shutil.which("nvidia-smi") is not None
    assert (response.status_code, "no nvidia-smi" in response.text) == ((200, False) if has_card else (404, True))


def test_no_traceback_reached_the_log(server: RunningServer, responses: list[requests.Response]) -> None:
    assert "Traceback" not in server.log.read_text()


def test_a_downloaded_model_has_a_file_name_and_is_the_served_one(server: RunningServer, studies: Path) -> None:
    response = server.request("GET", "/model/unet")
    info = server.json("/model/info/unet")
    assert response.content == (server.models / "unet" / "model.safetensors").read_bytes()
    assert re.fullmatch(r"ct2pet-unet-version-\d+-[0-9a-f]{8}\.safetensors", info["file"])
    assert info["file"] in response.headers["Content-Disposition"]
    assert info["size"] == len(response.content)


def test_the_log_page_loads_no_external_resource(server: RunningServer) -> None:
    response = server.request("GET", "/logs/?refresh=1&lines=50")
    assert not re.search(r"<script|<link|<img|src=|https?://(?!127\.0\.0\.1)", response.text.partition("<pre>")[0])
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert '<meta http-equiv="refresh" content="3">' in response.text


def test_the_log_is_available_as_text(server: RunningServer) -> None:
    response = server.request("GET", "/logs/?lines=7&text=true")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert len(response.text.splitlines()) == 7
    full_log = server.request("GET", "/logs/?lines=0")
    assert len(full_log.text.splitlines()) >= 7


def test_markup_in_the_log_is_escaped(server: RunningServer) -> None:
    server.request("POST", "/activelearning/first", json={"client_id": "<script>alert(1)</script>"})
    server.request("GET", "/<script>alert(1)</script>")
    assert "<script>" not in server.request("GET", "/logs/?lines=300").text


def test_the_client_of_a_sample_is_recorded_and_info_does_not_change_the_choice(
    server: RunningServer, placeholders: dict[str, Any]
) -> None:
    server.request(
        "PUT", f"/datastore/image/info?image={placeholders['alone']}", data={"info": '{"id": "evil", "why": "x"}'}
    )
    picked = server.request("POST", "/activelearning/newest", json={"client_id": "me"}).json()
    assert picked["id"] == placeholders["alone"] and "the newest of" in picked["why"]
    assert picked["strategy"]["newest"]["client_id"] == "me"


@pytest.fixture(scope="module")
def scored(server: RunningServer) -> dict[str, Any]:
    """The ended task of a scoring run."""
    started = server.request("POST", "/scoring/metrics", json={"model": "unet"})
    assert started.status_code == 200, started.text
    return wait_for_task(server, "/scoring/")


def test_a_scoring_reports_its_progress(server: RunningServer, scored: dict[str, Any]) -> None:
    assert scored["status"] == "DONE", scored
    progress = scored["progress"]
    assert (progress["to_do"], progress["done"], progress["failed"], progress["percent"]) == (2, 2, 0, 100)
    assert any("scoring pairs: 100 %" in line for line in scored["details"])
    summary = progress["result"]["unet"]
    assert (summary["scored"], summary["never_seen"]) == (2, 1)
    assert server.json("/ct2pet/scores")["unet"] == summary


def test_the_score_is_in_the_info_of_the_label(
    server: RunningServer, scored: dict[str, Any], placeholders: dict[str, Any]
) -> None:
    score = server.json(f"/datastore/label/info?label={placeholders['pet']}&tag=final")["scores"]["unet"]
    assert score["seen"] == "training"
    assert score["figures"]["model"]["mae_suv_body"] > 0
    everything = server.json("/datastore/?output=all")["objects"][placeholders["ct"]]
    assert everything["labels"]["final"]["info"]["scores"]["unet"] == score


def test_a_scored_pair_is_not_scored_again(server: RunningServer, scored: dict[str, Any]) -> None:
    response = server.request(
        "POST", "/scoring/", json={"metrics": {"model": "unet"}, "uncertainty": {"model": "unet"}}
    )
    assert set(response.json()) == {"metrics", "uncertainty"}
    task = wait_for_task(server, "/scoring/")
    assert task["request"]["method"] == "uncertainty" and task["status"] == "DONE", task
    first, second, third = server.json("/scoring/?all=true")
    assert (first["progress"]["to_do"], second["progress"]["to_do"], third["progress"]["to_do"]) == (2, 0, 1)
    assert second["progress"]["already_done"] == 2


def test_a_stopped_batch_resumes(server: RunningServer, placeholders: dict[str, Any]) -> None:
    begun = server.request("POST", "/batch/infer/unet?images=unlabeled", json={"max_batch_size": 1})
    assert begun.status_code == 200, begun.text
    assert server.request("POST", "/batch/infer/unet", json={}).status_code == 429
    first = wait_for_task(server, "/batch/infer")
    assert first["progress"]["result"] == {"drawn": 1, "label_tag": "synthetic", "left": 0}
    server.request("POST", "/batch/infer/unet?images=all", json={})
    wait_until(lambda: bool((server.json("/batch/infer")["progress"] or {}).get("done")))
    stopped = server.request("DELETE", "/batch/infer")
    synthesized = server.json("/datastore/")["label_tags"]["synthetic"]
    assert stopped.status_code in (200, 404)  # 404: it has just ended
    assert synthesized >= 2
    server.request("POST", "/batch/infer/unet?images=all", json={})
    last = wait_for_task(server, "/batch/infer")
    assert last["progress"]["already_done"] >= 2
    assert server.json("/datastore/")["label_tags"]["synthetic"] == server.json("/datastore/")["total"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {TASK_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
