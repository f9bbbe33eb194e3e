"""What a hospital cannot have: a patient's name in a log, and a server that a full disk brings down."""

from __future__ import annotations

import io
import json
import resource
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.conftest import REPOSITORY
from tests.server.attack_target import AttackTarget, attacked_server

pytestmark = [pytest.mark.server, pytest.mark.slow]

LISTED_TIMEOUT_S = 120.0
APP_LOG = REPOSITORY / "ct2pet_app" / "logs" / "app.log"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackTarget]:
    with attacked_server(tmp_path_factory.mktemp("named"), accounts=False, traced=False) as server:
        yield server


@pytest.fixture(scope="module")
def ct_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A CT of 2 MB as .nii, which packs badly."""
    noise = np.random.default_rng(0).integers(-1000, 200, (16, 256, 256)).astype(np.int16)
    path = tmp_path_factory.mktemp("ct") / "ct.nii"
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))
    return path.read_bytes()


def series_as_zip(attacked: AttackTarget) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(attacked.link.parent.glob("*0001/*CT/*")):
            zipped.write(path, path.name)
        assert zipped.namelist()
    return archive.getvalue()


def use_everything(attacked: AttackTarget, ct_file: bytes) -> list[int]:
    """Do all that a client can, the patient's name in every word; return the statuses."""
    server, name = attacked.server, attacked.name
    said = {"params": json.dumps({"client_id": name, "description": f"{name}\n{name}"})}
    upload = (f"{name}^Jane.nii", ct_file)
    junk = (f"{name}.nrrd", b"junk")
    damaged = next(iter(attacked.link.parent.glob("*/*CT/*")))
    whole = damaged.read_bytes()
    asked = [
        ("POST", f"/infer/cascade3?image={attacked.ct}&output=json", {"data": said}),
        ("POST", "/infer/cascade3", {"data": said, "files": {"file": upload}}),
        ("POST", "/infer/cascade3", {"data": said, "files": {"file": junk}}),
        ("POST", "/infer/cascade3", {"files": {"file": (f"{name}.zip", series_as_zip(attacked))}}),
        ("POST", f"/infer/cascade3?image={name}", {}),
        ("POST", f"/infer/{name}?image={attacked.ct}", {}),
        ("POST", f"/ct2pet/dicom/cascade3?image={attacked.ct}&store=true", {}),
        ("PUT", "/session/", {"files": {"files": upload}}),
        ("PUT", "/session/", {"files": [("files", junk), ("files", upload)]}),
        ("GET", f"/session/{name}", {}),
        ("PUT", f"/datastore/image?image={name}", {"data": said, "files": {"file": upload}}),
        ("PUT", "/datastore/image", {"data": {"params": "{" + name}, "files": {"file": junk}}),
        ("PUT", f"/datastore/label?image={name}&tag={name}", {"data": said, "files": {"label": upload}}),
        ("PUT", f"/datastore/image/info?image={name}", {"data": {"info": json.dumps({"of": name})}}),
        ("GET", f"/datastore/image/info?image={name}", {}),
        ("GET", f"/datastore/label?label={name}&tag={name}", {}),
        ("DELETE", f"/datastore/image?id={name}", {}),
        ("GET", "/datastore/?output=all", {}),
        ("GET", "/ct2pet/series", {}),
        ("GET", f"/datastore/image?image={attacked.ct}", {}),
        ("POST", "/activelearning/random", {"json": {"client_id": name}}),
        ("POST", f"/activelearning/{name}", {"json": {}}),
        ("POST", "/scoring/metrics", {"json": {"model": name}}),
        ("POST", "/train/unet", {"json": {name: name}}),
        ("POST", f"/train/{name}", {"json": {}}),
        ("PUT", "/model/unet", {"files": {"file": (f"{name}.safetensors", name.encode())}}),
        ("GET", f"/ohif/{name}", {}),
        ("GET", f"/{name}?{name}={name}", {}),
        ("POST", "/reload", {}),
    ]
    try:
        damaged.write_bytes(whole[:3000])
        return [server.ask(method, path, **sent).status_code for method, path, sent in asked]
    finally:
        damaged.write_bytes(whole)
        wait_until_listed(attacked)


def wait_until_listed(attacked: AttackTarget) -> None:
    """Wait until the CT is usable again: for some seconds, a series that grows counts as still arriving."""
    deadline = time.monotonic() + LISTED_TIMEOUT_S
    while attacked.server.infer("cascade3", image=attacked.ct, output="json").status_code != 200:
        assert time.monotonic() < deadline, "the CT is not listed again"
        time.sleep(1.0)
        attacked.server.ask("POST", "/reload")


def test_no_patients_name_reaches_a_log(attacked: AttackTarget, ct_file: bytes) -> None:
    statuses = use_everything(attacked, ct_file)
    assert 200 in statuses
    assert not [status for status in statuses if status >= 500]
    batch = attacked.server.ask("POST", "/batch/infer/cascade3", json={"client_id": attacked.name})
    assert batch.status_code < 500
    texts = [attacked.server.log.read_text(), APP_LOG.read_text()]
    texts.append(attacked.server.ask("GET", "/logs/?text=true&lines=5000").text)
    assert "cascade3 of" in texts[0], "nothing was logged at all"
    assert not [line for text in texts for line in text.splitlines() if attacked.name in line]


@contextmanager
def full_disk(attacked: AttackTarget, *, at_bytes: int) -> Iterator[None]:
    """Let no file of the server grow beyond so many bytes: to a writer it is a full disk."""
    _, hard = resource.prlimit(attacked.pid, resource.RLIMIT_FSIZE)
    usual = resource.prlimit(attacked.pid, resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(attacked.pid, resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", "/infer/cascade3", "file"),
        ("PUT", "/datastore/image?image=large", "file"),
        ("PUT", "/session/", "files"),
        ("PUT", "/model/unet", "file"),
    ],
)
def test_a_disk_that_is_full_is_a_507_and_the_server_lives_on(
    attacked: AttackTarget, ct_file: bytes, method: str, path: str, field: str
) -> None:
    with full_disk(attacked, at_bytes=1_200_000):
        answer = attacked.server.ask(method, path, files={field: ("ct.nii", ct_file)})
    assert answer.status_code == 507, answer.text
    assert "disk" in answer.json()["detail"]
    left = [file.name for file in (attacked.server.models / "temporary").rglob("*") if file.is_file()]
    assert left == ["in-use"]
    assert attacked.server.infer("cascade3", image=attacked.ct, output="json").status_code == 200


def test_a_result_that_does_not_fit_is_a_507(attacked: AttackTarget) -> None:
    results = attacked.server.models / "results"
    before = set(results.iterdir())
    with full_disk(attacked, at_bytes=100):
        answer = attacked.server.infer("cascade3", image=attacked.ct, params='{"result_extension": ".nii.gz"}')
    assert answer.status_code == 507, answer.text[:300]
    assert set(results.iterdir()) <= before  # the former result may have been sent meanwhile


def test_temporary_files_of_a_killed_server_are_gone(attacked: AttackTarget, tmp_path: Path) -> None:
    """Of a living one they are not: its folder is locked."""
    from ct2pet_app.server.temp_dir import remove_if_abandoned

    folder = next((attacked.server.models / "temporary").iterdir())
    remove_if_abandoned(folder)
    assert folder.is_dir()
    (tmp_path / "server-killed").mkdir()
    (tmp_path / "server-killed" / "upload").write_bytes(b"x")
    remove_if_abandoned(tmp_path / "server-killed")
    assert not list(tmp_path.iterdir())
