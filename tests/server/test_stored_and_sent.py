"""The real server with accounts: who may change what others see, and that what is stored can always be sent back."""

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
    """Three patients: the first one's files have names that are no UTF-8, the second one has no PET."""
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
def people(server: RunningServer) -> dict[str, RunningServer]:
    return {name: server.logged_in_as(name) for name in ("una", "ann", "ada")}


@pytest.fixture(scope="module")
def cts(people: dict[str, RunningServer]) -> dict[str, str]:
    """The CTs' UIDs by patient."""
    objects = people["una"].json("/datastore/?output=all")["objects"]
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
def test_what_others_see_is_changed_by_annotators_only(
    people: dict[str, RunningServer], cts: dict[str, str], method: str, path: str, sent: dict[str, Any]
) -> None:
    asked = path.format(ct=cts["PHANTOM_0003"])
    before = people["una"].json("/datastore/?output=all")
    refused = people["una"].ask(method, asked, **sent)
    assert refused.status_code == 403
    assert "monailabel-annotator" in refused.json()["detail"]
    assert people["una"].json("/datastore/?output=all") == before
    assert people["ann"].ask(method, asked, **sent).status_code == 200


def test_a_pet_for_oneself_needs_no_more_than_a_user(people: dict[str, RunningServer], cts: dict[str, str]) -> None:
    assert people["una"].infer("unet", image=cts["PHANTOM_0003"], output="json").status_code == 200
    assert people["una"].ask("POST", f"/ct2pet/dicom/unet?image={cts['PHANTOM_0003']}").status_code == 200


def test_a_session_is_its_owners(people: dict[str, RunningServer], server: RunningServer, cts: dict[str, str]) -> None:
    ct = people["una"].ask("GET", f"/datastore/image?image={cts['PHANTOM_0003']}").content
    made = people["una"].ask("PUT", "/session/", files={"files": ("ct.nrrd", ct)})
    session_id, info = made.json()["session_id"], made.json()["session_info"]
    assert uuid.UUID(session_id).version == 4
    assert (info["name"], info["image"]) == (session_id, "image.nrrd")
    assert str(server.models) not in made.text
    for method, path in (("GET", ""), ("GET", "?image=true"), ("DELETE", "")):
        assert people["ann"].ask(method, f"/session/{session_id}{path}").status_code == 404
    assert people["ann"].infer("unet", session_id=session_id).status_code == 404
    assert people["una"].infer("unet", session_id=session_id, output="json").status_code == 200
    assert people["una"].ask("GET", f"/session/{session_id}?image=true").content == ct
    assert people["ada"].json(f"/session/{session_id}")["name"] == session_id
    assert people["una"].ask("DELETE", f"/session/{session_id}").status_code == 200
    assert people["una"].ask("GET", f"/session/{session_id}").status_code == 404


POISON = ["NaN", "Infinity", "1e999", '"\\ud800"', '"\\u0000"', "[" * 50 + "]" * 50, '"' + "x" * 70_000 + '"', "9" * 30]


@pytest.mark.parametrize("poison", POISON, ids=range(len(POISON)))
def test_what_cannot_be_sent_back_is_not_stored(
    people: dict[str, RunningServer], cts: dict[str, str], poison: str, tmp_path: Path
) -> None:
    ct, json_body = cts["PHANTOM_0002"], {"headers": {"Content-Type": "application/json"}}
    sent = f'{{"client_id": {poison}}}'
    answers = [
        people["una"].ask("POST", "/activelearning/first", data=sent.encode(), **json_body),
        people["ann"].ask("PUT", f"/datastore/image/info?image={ct}", data={"info": sent}),
        people["ann"].ask("PUT", f"/datastore/label/info?label={ct}&tag=final", data={"info": sent}),
        people["ann"].ask("PUT", f"/datastore/updatelabelinfo?label={ct}&tag=final", data={"params": sent}),
        people["ann"].ask("PUT", "/datastore/image?image=x", data={"params": sent},
                          files={"file": ("ct.nrrd", volume(-1000, tmp_path))}),
        people["ann"].ask("PUT", f"/datastore/label?image={ct}&tag=x", data={"params": sent},
                          files={"label": ("pet.nrrd", volume(1, tmp_path))}),
        people["una"].infer("unet", image=ct, params=sent.replace("client_id", "ignored")),
    ]  # fmt: skip
    assert {answer.status_code for answer in answers} <= {400, 413}, [answer.text[:200] for answer in answers]
    assert all(answer.json()["detail"] for answer in answers)
    assert people["una"].ask("GET", "/datastore/?output=all").status_code == 200


def test_a_note_overrides_no_fact_and_forges_no_score(people: dict[str, RunningServer], cts: dict[str, str]) -> None:
    ct = cts["PHANTOM_0003"]
    forged = {"patient_id": "x", "slices": 1, "pet": None, "uploaded": True, "scores": {"unet": 1}, "seen": 3}
    forged |= {"uncertainty": {"unet": 1}, "strategy": {"first": 1}, "warnings": [], "drawn": {}, "suv": "x"}
    before = [people["una"].json(path) for path in _infos(ct)]
    for path in _infos(ct):
        assert people["ann"].ask("PUT", path, data={"info": json.dumps(forged)}).status_code == 200
    for path, was in zip(_infos(ct), before, strict=True):
        now = people["una"].json(path)
        assert (now.pop("seen"), now.pop("user")) == (3, "ann")
        assert now == {key: value for key, value in was.items() if key not in ("seen", "user")}


def _infos(ct: str) -> tuple[str, str]:
    return f"/datastore/image/info?image={ct}", f"/datastore/label/info?label={ct}&tag=final"


def test_a_synthetic_pet_replaces_no_label_that_somebody_uploaded(
    people: dict[str, RunningServer], cts: dict[str, str], tmp_path: Path
) -> None:
    ct, upload = cts["PHANTOM_0002"], volume(3, tmp_path)
    where = f"/datastore/label?image={ct}&tag=by hand"
    assert people["ann"].ask("PUT", where, files={"label": ("pet.nrrd", upload)}).status_code == 200
    params = '{"save_label": true, "label_tag": "by hand"}'
    refused = people["ann"].infer("unet", image=ct, params=params)
    assert (refused.status_code, "does not replace it" in refused.json()["detail"]) == (400, True)
    assert people["una"].ask("GET", f"/datastore/label?label={ct}&tag=by hand").content == upload


def test_a_label_saved_again_and_again_is_complete_for_eight_readers(
    people: dict[str, RunningServer], cts: dict[str, str], tmp_path: Path
) -> None:
    """Before: of 775 reads 416 were 500, and 317 torn."""
    ct, bodies = cts["PHANTOM_0002"], [volume(value, tmp_path) for value in range(6)]
    where, read = f"/datastore/label?image={ct}&tag=busy", f"/datastore/label?label={ct}&tag=busy"
    assert people["ann"].ask("PUT", where, files={"label": ("pet.nrrd", bodies[0])}).status_code == 200
    saved, seen = threading.Event(), []

    def reading() -> None:
        while not saved.is_set():
            answer = people["una"].ask("GET", read)
            seen.append((answer.status_code, answer.content in bodies, int(answer.headers["Content-Length"])))

    readers = [threading.Thread(target=reading) for _ in range(8)]
    for reader in readers:
        reader.start()
    statuses = [people["ann"].ask("PUT", where, files={"label": ("p.nrrd", bodies[n % 6])}).status_code
                for n in range(18)]  # fmt: skip
    saved.set()
    for reader in readers:
        reader.join()
    assert set(statuses) == {200}
    assert len(seen) >= 8
    assert {(status, is_complete) for status, is_complete, _ in seen} == {(200, True)}


def test_a_pair_whose_files_names_are_no_utf_8_is_as_good_as_any(
    people: dict[str, RunningServer], cts: dict[str, str], server: RunningServer
) -> None:
    ct, admin = cts["PHANTOM_0001"], people["ada"]
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
        assert admin.ask(method, path).status_code == 200, path
    while (task := admin.json("/scoring/"))["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert (task["status"], task["progress"]["failed"]) == ("DONE", 0)
    log = server.log.read_text(errors="replace")
    assert "damaged" not in log and "Logging error" not in log
