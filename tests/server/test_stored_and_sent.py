"""The real server with accounts: permissions for shared data, and stored data that can always be returned."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server, write_users

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
LATIN_1 = "latin-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with three patients: file names of the first are not valid UTF-8, the second has no PET."""
    folder = tmp_path_factory.mktemp("stored")
    studies = folder / "studies"
    write_phantoms(studies, patients=3, settings=SMALL)
    first, second, _ = sorted(studies.iterdir())
    for path in sorted(first.rglob("*.dcm")):
        path.rename(path.with_name(os.fsdecode(f"Müller\n{path.name}".encode(LATIN_1))))
    for path in sorted(first.iterdir()):
        path.rename(path.with_name(os.fsdecode(f"Série {path.name}".encode(LATIN_1))))
    (studies / os.fsdecode("jünk".encode(LATIN_1))).write_text("no DICOM")
    shutil.rmtree(second / "PET")
    save_constant_model(folder / "models" / "unet" / "model.safetensors", 2.5, stages=1)
    conf = {"models": "unet", "users": write_users(folder)}
    with running_server("ct2pet_app", studies, folder, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def clients(server: RunningServer) -> dict[str, RunningServer]:
    return {name: server.logged_in_as(name) for name in ("una", "ann", "ada")}


@pytest.fixture(scope="module")
def cts(clients: dict[str, RunningServer]) -> dict[str, str]:
    """The CTs' UIDs by patient."""
    objects = clients["una"].json("/datastore/?output=all")["objects"]
    return {entry["image"]["info"]["patient_id"]: uid for uid, entry in objects.items()}


def volume(value: float, folder: Path) -> bytes:
    path = folder / f"{uuid.uuid4().hex}.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((16, 64, 64), value, dtype=np.float32)), str(path))
    return path.read_bytes()


EFFECTS = [
    ("POST", "/infer/unet?image={ct}", {"data": {"params": '{"save_label": true, "label_tag": "of a role"}'}}),
    ("POST", "/infer/unet?image={ct}", {"data": {"params": '{"save_label": "1"}'}}),
    ("POST", "/infer/unet?image={ct}", {"data": {"params": '{"store": true}'}}),
    ("POST", "/ct2pet/dicom/unet?image={ct}&store=true", {}),
    ("PUT", "/datastore/label?image={ct}&tag=mine", {"files": {"label": ("label.nrrd", b"NRRD0004\n")}}),
    ("PUT", "/datastore/image/info?image={ct}", {"data": {"info": '{"seen": 1}'}}),
]


@pytest.mark.parametrize(("method", "path", "sent"), EFFECTS)
def test_only_annotators_change_shared_data(
    clients: dict[str, RunningServer], cts: dict[str, str], method: str, path: str, sent: dict[str, Any]
) -> None:
    url = path.format(ct=cts["PHANTOM_0003"])
    before = clients["una"].json("/datastore/?output=all")
    refused = clients["una"].request(method, url, **sent)
    assert refused.status_code == 403
    assert "monailabel-annotator" in refused.json()["detail"]
    assert clients["una"].json("/datastore/?output=all") == before
    assert clients["ann"].request(method, url, **sent).status_code == 200


def test_an_inference_without_side_effects_requires_only_the_user_role(
    clients: dict[str, RunningServer], cts: dict[str, str]
) -> None:
    assert clients["una"].infer("unet", image=cts["PHANTOM_0003"], output="json").status_code == 200
    assert clients["una"].request("POST", f"/ct2pet/dicom/unet?image={cts['PHANTOM_0003']}").status_code == 200


def test_a_session_belongs_to_its_owner(
    clients: dict[str, RunningServer], server: RunningServer, cts: dict[str, str]
) -> None:
    ct = clients["una"].request("GET", f"/datastore/image?image={cts['PHANTOM_0003']}").content
    made = clients["una"].request("PUT", "/session/", files={"files": ("ct.nrrd", ct)})
    session_id, info = made.json()["session_id"], made.json()["session_info"]
    assert uuid.UUID(session_id).version == 4
    assert (info["name"], info["image"]) == (session_id, "image.nrrd")
    assert str(server.models) not in made.text
    for method, path in (("GET", ""), ("GET", "?image=true"), ("DELETE", "")):
        assert clients["ann"].request(method, f"/session/{session_id}{path}").status_code == 404
    assert clients["ann"].infer("unet", session_id=session_id).status_code == 404
    assert clients["una"].infer("unet", session_id=session_id, output="json").status_code == 200
    assert clients["una"].request("GET", f"/session/{session_id}?image=true").content == ct
    assert clients["ada"].json(f"/session/{session_id}")["name"] == session_id
    assert clients["una"].request("DELETE", f"/session/{session_id}").status_code == 200
    assert clients["una"].request("GET", f"/session/{session_id}").status_code == 404


POISON = ["NaN", "Infinity", "1e999", '"\\ud800"', '"\\u0000"', "[" * 50 + "]" * 50, '"' + "x" * 70_000 + '"', "9" * 30]


@pytest.mark.parametrize("poison", POISON, ids=range(len(POISON)))
def test_values_that_cannot_be_returned_as_json_are_not_stored(
    clients: dict[str, RunningServer], cts: dict[str, str], poison: str, tmp_path: Path
) -> None:
    ct, json_body = cts["PHANTOM_0002"], {"headers": {"Content-Type": "application/json"}}
    sent = f'{{"client_id": {poison}}}'
    responses = [
        clients["una"].request("POST", "/activelearning/first", data=sent.encode(), **json_body),
        clients["ann"].request("PUT", f"/datastore/image/info?image={ct}", data={"info": sent}),
        clients["ann"].request("PUT", f"/datastore/label/info?label={ct}&tag=final", data={"info": sent}),
        clients["ann"].request("PUT", f"/datastore/updatelabelinfo?label={ct}&tag=final", data={"params": sent}),
        clients["ann"].request("PUT", "/datastore/image?image=x", data={"params": sent},
                          files={"file": ("ct.nrrd", volume(-1000, tmp_path))}),
        clients["ann"].request("PUT", f"/datastore/label?image={ct}&tag=x", data={"params": sent},
                          files={"label": ("pet.nrrd", volume(1, tmp_path))}),
        clients["una"].infer("unet", image=ct, params=sent.replace("client_id", "ignored")),
    ]  # fmt: skip
    assert {response.status_code for response in responses} <= {400, 413}, [
        response.text[:200] for response in responses
    ]
    assert all(response.json()["detail"] for response in responses)
    assert clients["una"].request("GET", "/datastore/?output=all").status_code == 200


def test_info_of_a_client_overrides_no_metadata_and_no_score(
    clients: dict[str, RunningServer], cts: dict[str, str]
) -> None:
    ct = cts["PHANTOM_0003"]
    forged = {"patient_id": "x", "slices": 1, "pet": None, "uploaded": True, "scores": {"unet": 1}, "seen": 3}
    forged |= {"uncertainty": {"unet": 1}, "strategy": {"first": 1}, "warnings": [], "drawn": {}, "suv": "x"}
    before = [clients["una"].json(path) for path in _infos(ct)]
    for path in _infos(ct):
        assert clients["ann"].request("PUT", path, data={"info": json.dumps(forged)}).status_code == 200
    for path, was in zip(_infos(ct), before, strict=True):
        now = clients["una"].json(path)
        assert (now.pop("seen"), now.pop("user")) == (3, "ann")
        assert now == {key: value for key, value in was.items() if key not in ("seen", "user")}


def _infos(ct: str) -> tuple[str, str]:
    return f"/datastore/image/info?image={ct}", f"/datastore/label/info?label={ct}&tag=final"


def test_a_synthetic_pet_does_not_replace_an_uploaded_label(
    clients: dict[str, RunningServer], cts: dict[str, str], tmp_path: Path
) -> None:
    ct, upload = cts["PHANTOM_0002"], volume(3, tmp_path)
    label_url = f"/datastore/label?image={ct}&tag=by hand"
    assert clients["ann"].request("PUT", label_url, files={"label": ("pet.nrrd", upload)}).status_code == 200
    params = '{"save_label": true, "label_tag": "by hand"}'
    refused = clients["ann"].infer("unet", image=ct, params=params)
    assert (refused.status_code, "does not replace it" in refused.json()["detail"]) == (400, True)
    assert clients["una"].request("GET", f"/datastore/label?label={ct}&tag=by hand").content == upload


def test_eight_readers_always_get_a_complete_label_while_it_is_overwritten(
    clients: dict[str, RunningServer], cts: dict[str, str], tmp_path: Path
) -> None:
    """Without atomic replacement, 416 of 775 reads failed and 317 were torn."""
    ct, bodies = cts["PHANTOM_0002"], [volume(value, tmp_path) for value in range(6)]
    label_url, read = f"/datastore/label?image={ct}&tag=busy", f"/datastore/label?label={ct}&tag=busy"
    assert clients["ann"].request("PUT", label_url, files={"label": ("pet.nrrd", bodies[0])}).status_code == 200
    saved, seen = threading.Event(), []

    def reading() -> None:
        while not saved.is_set():
            response = clients["una"].request("GET", read)
            seen.append((response.status_code, response.content in bodies, int(response.headers["Content-Length"])))

    readers = [threading.Thread(target=reading) for _ in range(8)]
    for reader in readers:
        reader.start()
    statuses = [clients["ann"].request("PUT", label_url, files={"label": ("p.nrrd", bodies[n % 6])}).status_code
                for n in range(18)]  # fmt: skip
    saved.set()
    for reader in readers:
        reader.join()
    assert set(statuses) == {200}
    assert len(seen) >= 8
    assert {(status, is_complete) for status, is_complete, _ in seen} == {(200, True)}


def test_a_pair_with_file_names_that_are_not_utf_8_works_everywhere(
    clients: dict[str, RunningServer], cts: dict[str, str], server: RunningServer
) -> None:
    ct, admin = cts["PHANTOM_0001"], clients["ada"]
    deadline = time.monotonic() + 120
    while any(pair["check"]["result"] == "unchecked" for pair in admin.json("/ct2pet/pairs")):
        assert time.monotonic() < deadline, admin.json("/ct2pet/pairs")
        time.sleep(0.2)
    assert {pair["side"] for pair in admin.json("/ct2pet/pairs")} <= {"train", "validation", "test"}
    for method, path in (
        ("GET", f"/datastore/image?image={ct}"),
        ("GET", f"/datastore/label?label={ct}&tag=final"),
        ("HEAD", f"/datastore/image?image={ct}"),
        ("POST", f"/infer/unet?image={ct}&output=json"),
        ("POST", f"/ct2pet/dicom/unet?image={ct}&store=true"),
        ("POST", f"/ct2pet/pairs/{ct}/accept"),
        ("GET", "/ct2pet/series"),
        ("GET", "/ct2pet/scores"),
        ("GET", "/info/"),
        ("POST", "/reload"),
        ("POST", "/scoring/metrics"),
    ):
        assert admin.request(method, path).status_code == 200, path
    while (task := admin.json("/scoring/"))["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert (task["status"], task["progress"]["failed"]) == ("DONE", 0)
    log = server.log.read_text(errors="replace")
    assert "damaged" not in log and "Logging error" not in log
