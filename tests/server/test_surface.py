"""Every address of the running server, asked once: a meaningful answer or a sentence that says what to do.

One server on three phantoms, the third without its PET; its unet draws 2 SUV everywhere.
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
from tests.server.endpoint_requests import TABLE, filled
from tests.server.processes import REPOSITORY, RunningServer, running_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV
TASK_TIMEOUT_S = 240.0
BELOW = (("delete", "/train/"), ("get", "/logs/gpu"))  # asked in tests of their own


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
def words(server: RunningServer, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands for the braces in the addresses below."""
    report = scan_folder(studies)
    ct, _, alone = (found.series.uid for found in report.usable("CT"))
    pet = report.usable("PT")[0].series.uid
    volume = tmp_path_factory.mktemp("upload") / "ct.nrrd"
    hu = np.linspace(-1000, 200, 8 * 16 * 16, dtype=np.float32).reshape(8, 16, 16)
    write_volume_file(Volume(hu, Geometry((8, 16, 16), np.diag([5.0, 5.0, 5.0, 1.0])), Unit.HU), volume)
    answer = server.ask("PUT", "/session/", files={"files": ("ct.nrrd", volume.read_bytes())})
    assert answer.status_code == 200, answer.text
    return {"ct": ct, "pet": pet, "alone": alone, "session": answer.json()["session_id"], "volume": volume.read_bytes()}


def ended(server: RunningServer, path: str) -> dict[str, Any]:
    """Return a task once it has ended."""
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while time.monotonic() < deadline:
        task: dict[str, Any] = server.json(path)
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.3)
    pytest.fail(f"{path} still runs after {TASK_TIMEOUT_S:.0f} s: {server.json(path)}")


@pytest.fixture(scope="module")
def answers(server: RunningServer, words: dict[str, Any]) -> list[requests.Response]:
    """Every row of the table, asked in its order."""
    found = []
    for method, path, sent, _, _ in TABLE:
        for word in ("ct", "pet", "alone", "session"):
            path = path.replace(f"{{{word}}}", words[word])
        found.append(server.ask(method, path, **filled(sent, words)))
    return found


@pytest.mark.parametrize(
    "row", range(len(TABLE)), ids=[f"{method} {path} {n}" for n, (method, path, *_) in enumerate(TABLE)]
)
def test_each_address_answers_as_it_should(answers: list[requests.Response], words: dict[str, Any], row: int) -> None:
    *_, status, holds = TABLE[row]
    for word in ("ct", "pet", "alone"):
        holds = holds.replace(f"{{{word}}}", words[word])
    answer = answers[row]
    assert answer.status_code == status, answer.text[:500]
    assert any(part in answer.text for part in holds.split("|")), answer.text[:500]
    assert "Traceback" not in answer.text and "/site-packages/" not in answer.text
    if status >= 400 and TABLE[row][0] != "HEAD":
        check_problem(answer)


def test_the_table_asks_every_address_that_the_server_names(server: RunningServer) -> None:
    addresses = server.json("/openapi.json")["paths"]
    elsewhere = re.compile(r"/ct2pet/(models|pairs|split|studies)|/auth")
    for path, methods in addresses.items():
        pattern = re.compile(re.sub(r"\{[^}]*\}", "[^?]+", path) + r"(\?.*)?$")
        for method in methods:
            asked = any(row[0] == method.upper() and pattern.match(row[1]) for row in TABLE)
            assert asked or elsewhere.match(path) or (method, path) in BELOW, f"{method} {path}"


def test_stopping_a_training_that_is_none_is_no_fault(server: RunningServer) -> None:
    assert server.ask("DELETE", "/train/").status_code < 500


def test_a_machine_without_a_graphics_card_says_so(server: RunningServer) -> None:
    answer = server.ask("GET", "/logs/gpu")
    has_card = shutil.which("nvidia-smi") is not None
    assert (answer.status_code, "no nvidia-smi" in answer.text) == ((200, False) if has_card else (404, True))


def test_no_traceback_reached_the_log(server: RunningServer, answers: list[requests.Response]) -> None:
    assert "Traceback" not in server.log.read_text()


def test_a_downloaded_model_is_named_and_is_the_one_that_is_served(server: RunningServer, studies: Path) -> None:
    answer = server.ask("GET", "/model/unet")
    info = server.json("/model/info/unet")
    assert answer.content == (server.models / "unet" / "model.safetensors").read_bytes()
    assert re.fullmatch(r"ct2pet-unet-version-\d+-[0-9a-f]{8}\.safetensors", info["file"])
    assert info["file"] in answer.headers["Content-Disposition"]
    assert info["size"] == len(answer.content)


def test_the_log_page_loads_nothing_from_anywhere(server: RunningServer) -> None:
    answer = server.ask("GET", "/logs/?refresh=1&lines=50")
    assert not re.search(r"<script|<link|<img|src=|https?://(?!127\.0\.0\.1)", answer.text.partition("<pre>")[0])
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert '<meta http-equiv="refresh" content="3">' in answer.text


def test_the_log_as_text_is_the_log(server: RunningServer) -> None:
    answer = server.ask("GET", "/logs/?lines=7&text=true")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert len(answer.text.splitlines()) == 7
    whole = server.ask("GET", "/logs/?lines=0")
    assert len(whole.text.splitlines()) >= 7


def test_markup_in_the_log_is_shown_and_not_obeyed(server: RunningServer) -> None:
    server.ask("POST", "/activelearning/first", json={"client_id": "<script>alert(1)</script>"})
    server.ask("GET", "/<script>alert(1)</script>")
    assert "<script>" not in server.ask("GET", "/logs/?lines=300").text


def test_who_was_given_a_sample_is_noted_and_notes_change_no_pick(server: RunningServer, words: dict[str, Any]) -> None:
    server.ask("PUT", f"/datastore/image/info?image={words['alone']}", data={"info": '{"id": "evil", "why": "x"}'})
    picked = server.ask("POST", "/activelearning/newest", json={"client_id": "me"}).json()
    assert picked["id"] == words["alone"] and "the newest of" in picked["why"]
    assert picked["strategy"]["newest"]["client_id"] == "me"


@pytest.fixture(scope="module")
def scored(server: RunningServer) -> dict[str, Any]:
    """The ended task of a scoring."""
    started = server.ask("POST", "/scoring/metrics", json={"model": "unet"})
    assert started.status_code == 200, started.text
    return ended(server, "/scoring/")


def test_a_scoring_tells_how_it_went(server: RunningServer, scored: dict[str, Any]) -> None:
    assert scored["status"] == "DONE", scored
    progress = scored["progress"]
    assert (progress["to_do"], progress["done"], progress["failed"], progress["percent"]) == (2, 2, 0, 100)
    assert any("scoring pairs: 100 %" in line for line in scored["details"])
    summary = progress["result"]["unet"]
    assert (summary["scored"], summary["never_seen"]) == (2, 1)
    assert server.json("/ct2pet/scores")["unet"] == summary


def test_the_score_is_in_the_info_of_the_label(
    server: RunningServer, scored: dict[str, Any], words: dict[str, Any]
) -> None:
    score = server.json(f"/datastore/label/info?label={words['pet']}&tag=final")["scores"]["unet"]
    assert score["seen"] == "training"
    assert score["figures"]["model"]["mae_suv_body"] > 0
    everything = server.json("/datastore/?output=all")["objects"][words["ct"]]
    assert everything["labels"]["final"]["info"]["scores"]["unet"] == score


def test_scored_once_it_is_not_scored_again(server: RunningServer, scored: dict[str, Any]) -> None:
    answer = server.ask("POST", "/scoring/", json={"metrics": {"model": "unet"}, "uncertainty": {"model": "unet"}})
    assert set(answer.json()) == {"metrics", "uncertainty"}
    task = ended(server, "/scoring/")
    assert task["request"]["method"] == "uncertainty" and task["status"] == "DONE", task
    first, second, third = server.json("/scoring/?all=true")
    assert (first["progress"]["to_do"], second["progress"]["to_do"], third["progress"]["to_do"]) == (2, 0, 1)
    assert second["progress"]["already_done"] == 2


def test_a_batch_goes_on_where_it_was_stopped(server: RunningServer, words: dict[str, Any]) -> None:
    begun = server.ask("POST", "/batch/infer/unet?images=unlabeled", json={"max_batch_size": 1})
    assert begun.status_code == 200, begun.text
    assert server.ask("POST", "/batch/infer/unet", json={}).status_code == 429
    first = ended(server, "/batch/infer")
    assert first["progress"]["result"] == {"drawn": 1, "label_tag": "synthetic", "left": 0}
    server.ask("POST", "/batch/infer/unet?images=all", json={})
    wait_until(lambda: bool((server.json("/batch/infer")["progress"] or {}).get("done")))
    stopped = server.ask("DELETE", "/batch/infer")
    drawn = server.json("/datastore/")["label_tags"]["synthetic"]
    assert stopped.status_code in (200, 404)  # 404: it was done in this moment
    assert drawn >= 2
    server.ask("POST", "/batch/infer/unet?images=all", json={})
    last = ended(server, "/batch/infer")
    assert last["progress"]["already_done"] >= 2
    assert server.json("/datastore/")["label_tags"]["synthetic"] == server.json("/datastore/")["total"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TASK_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {TASK_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
