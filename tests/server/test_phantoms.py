"""The real server on phantoms, started from another folder: new studies, stopping, resuming, refusals, attacks."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from lib.dicom.scan.scan import scan_folder
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import (
    REPOSITORY,
    RunningServer,
    command,
    environment,
    free_port,
    running_server,
    stop_process,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
LONG_RUN = "pixel_mm=8.0;depth=1;context_slices=1;normalization=none;epochs=100000;patience=0;validation=0.0;test=0.0"


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=2, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server started from another folder, with absolute paths."""
    conf = {"models": "unet,cascade3", "width": "2", "set": LONG_RUN}
    app, folder = REPOSITORY / "ct2pet_app", tmp_path_factory.mktemp("server")
    with running_server(app, studies, folder, cwd=Path("/"), is_forked=False, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def ct_uid(studies: Path) -> str:
    return scan_folder(studies).usable("CT")[0].series.uid


@pytest.fixture(scope="module")
def server_with_model(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """The server with a cascade3 that was trained on another machine."""
    model = save_constant_model(tmp_path_factory.mktemp("model") / "cascade3.safetensors", 2.5)
    response = server.request("PUT", "/model/cascade3", files={"file": model.read_bytes()})
    assert response.status_code == 200, response.text
    return server


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:.0f} s")
        time.sleep(0.2)


def test_an_uploaded_model_is_used(server_with_model: RunningServer, ct_uid: str) -> None:
    metadata = server_with_model.infer("cascade3", image=ct_uid, output="json").json()
    assert metadata["suv"]["mean"] == pytest.approx(2.5, rel=1e-2)


def test_a_file_that_is_not_a_model_is_refused(server_with_model: RunningServer, ct_uid: str) -> None:
    response = server_with_model.request("PUT", "/model/cascade3", files={"file": b"junk"})
    assert (response.status_code, "not a readable" in response.text) == (400, True)
    assert server_with_model.infer("cascade3", image=ct_uid, output="json").status_code == 200


def test_new_studies_appear_without_a_restart(server: RunningServer, studies: Path) -> None:
    known = server.json("/datastore/")["total"]
    write_phantoms(studies / "new", patients=1, seed=7, settings=SMALL)
    wait_until(lambda: server.json("/datastore/")["completed"] > known, timeout_s=15)
    assert server.json("/datastore/")["completed"] == known + 1


def test_every_series_reports_whether_it_is_usable(server: RunningServer, studies: Path) -> None:
    write_phantoms(studies / "offset", patients=1, seed=8, settings=replace(SMALL, slices=6))
    for path in sorted(studies.glob("offset/*/CT/*"))[2:4]:
        path.unlink()
    wait_until(lambda: any(not found["usable"] for found in server.json("/ct2pet/series")), timeout_s=15)
    reasons = [found["why_not"] for found in server.json("/ct2pet/series") if not found["usable"]]
    assert any("missing" in reason or "gap" in reason for reason in reasons), reasons


def test_a_zip_of_a_series_is_accepted_as_ct(server_with_model: RunningServer, studies: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted((studies / "PHANTOM_0001" / "CT").iterdir()):
            zipped.write(path, path.name)
    response = server_with_model.infer("cascade3", files={"file": ("series.zip", archive.getvalue())}, output="json")
    assert response.json()["shape"] == [6, 64, 64]


def nrrd(folder: Path, image: sitk.Image) -> bytes:
    sitk.WriteImage(image, str(folder / "image.nrrd"))
    return (folder / "image.nrrd").read_bytes()


NOT_A_CT = {
    "a PET in SUV": (np.linspace(0, 12, 512).reshape(8, 8, 8), "looks like a PET or an MR"),
    "an 8-bit picture": (np.arange(512).reshape(8, 8, 8) % 256, "8-bit picture"),
    "a single slice": (np.linspace(-1000, 200, 64).reshape(1, 8, 8), "1 slice, expected a CT volume"),
}


@pytest.mark.parametrize(("array", "message"), NOT_A_CT.values(), ids=NOT_A_CT)
def test_an_image_that_is_not_a_ct_is_refused_with_the_reason(
    server_with_model: RunningServer, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    upload = nrrd(tmp_path, sitk.GetImageFromArray(array.astype(np.float32)))
    response = server_with_model.infer("cascade3", files={"file": ("Thorax.nrrd", upload)})
    assert response.status_code == 400
    assert re.search(rf"Thorax\.nrrd: .*{message}", response.json()["detail"])


def test_a_colour_volume_is_refused(server_with_model: RunningServer, tmp_path: Path) -> None:
    upload = nrrd(tmp_path, sitk.Image([8, 8, 4], sitk.sitkVectorUInt8, 3))
    response = server_with_model.infer("cascade3", files={"file": ("fusion.nrrd", upload)})
    assert (response.status_code, "colour or vector image" in response.text) == (400, True)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """The path of a CT file that no request may read."""
    image = sitk.GetImageFromArray(np.linspace(-1000, 200, 512).reshape(8, 8, 8).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "secret.nrrd"))
    return str(tmp_path / "secret.nrrd")


@pytest.mark.parametrize("image", ["{secret}", "/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "/", "."])
def test_a_server_path_is_not_an_image(server_with_model: RunningServer, secret: str, image: str) -> None:
    response = server_with_model.infer("cascade3", image=image.format(secret=secret))
    assert (response.status_code, "no image" in response.text) == (404, True)


@pytest.mark.parametrize("field", ["image", "label", "file", "path", "model", "session"])
def test_params_cannot_select_a_file(server_with_model: RunningServer, ct_uid: str, secret: str, field: str) -> None:
    response = server_with_model.infer("cascade3", params=f'{{"{field}": "{secret}"}}', image=ct_uid)
    assert (response.status_code, "params must not contain" in response.text) == (400, True)


ATTACKS = {
    "wsi": ("POST", "/infer/wsi/cascade3?image=/etc/passwd", {"json": {}}),
    "wsi v2": ("POST", "/infer/wsi_v2/cascade3?image=/etc/passwd", {"data": {"wsi": "{}"}}),
    "session": ("POST", "/infer/cascade3?session_id=../../etc", {}),
    "image download": ("GET", "/datastore/image?image=/etc/passwd", {}),
    "image info": ("GET", "/datastore/image/info?image=../x", {}),
    "label download": ("GET", "/datastore/label?label=/etc/passwd&tag=final", {}),
    "label tag": ("GET", "/datastore/label?label=x&tag=../../etc", {}),
    "model": ("GET", "/model/..%2f..%2fetc", {}),
    "remove": ("DELETE", "/datastore/image?id=/etc/passwd", {}),
    "dicom": ("POST", "/ct2pet/dicom/cascade3?image=/etc/passwd&store=true", {}),
    "dicom model": ("POST", "/ct2pet/dicom/..%2f..%2fetc?image=1.2.3", {}),
    "store": ("POST", "/infer/cascade3?image=..%2f..%2fetc", {"data": {"params": '{"store": true}'}}),
    "web page": ("POST", "/train/unet", {"headers": {"Origin": "http://evil.example"}}),
    "in the server": ("POST", "/train/unet?run_sync=true", {"json": {}}),
    "recipe file": ("POST", "/train/unet", {"json": {"recipe": "/etc/evil.toml"}}),
}


@pytest.mark.parametrize(("method", "path", "more"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused(server_with_model: RunningServer, method: str, path: str, more: dict) -> None:
    response = server_with_model.request(method, path, **more)
    assert 400 <= response.status_code < 500, response.text
    assert "root:" not in response.text


def test_a_batch_writes_a_label_for_every_ct(server_with_model: RunningServer) -> None:
    assert server_with_model.request("POST", "/batch/infer/cascade3?images=all").status_code == 200
    wait_until(lambda: server_with_model.json("/batch/infer")["status"] not in ("SUBMITTED", "RUNNING"), timeout_s=60)
    assert server_with_model.json("/batch/infer")["status"] == "DONE"
    tags = server_with_model.json("/datastore/")["label_tags"]
    assert tags["synthetic"] == tags["final"] >= 2


def test_no_patient_name_is_logged(server_with_model: RunningServer, ct_uid: str) -> None:
    server_with_model.infer("cascade3", image=ct_uid)
    server_with_model.infer("cascade3", files={"file": ("Doe John.nrrd", b"junk")})
    log = server_with_model.log.read_text()
    assert ct_uid in log
    assert not re.search("PHANTOM\\^|Doe", log)


def test_inference_works_after_a_reload(server_with_model: RunningServer, ct_uid: str) -> None:
    assert server_with_model.request("POST", "/reload").status_code == 200
    assert server_with_model.infer("cascade3", image=ct_uid, output="json").status_code == 200


def test_results_are_removed_after_the_response(server_with_model: RunningServer, ct_uid: str) -> None:
    server_with_model.infer("cascade3", image=ct_uid)
    wait_until(lambda: not list((server_with_model.models / "results").iterdir()), timeout_s=5)
    assert server_with_model.json("/datastore/")["total"] >= 2


def test_an_invalid_training_setting_starts_no_task(server: RunningServer) -> None:
    before = server.request("GET", "/train/?all=true").text
    response = server.request("POST", "/train/unet", json={"max_epoch": 1})
    assert (response.status_code, "did you mean max_epochs" in response.text) == (400, True)
    assert server.request("GET", "/train/?all=true").text == before


def begin_training(server: RunningServer) -> None:
    assert server.request("POST", "/train/unet", json={}).status_code == 200
    wait_until(lambda: server.json("/train/")["status"] == "RUNNING", timeout_s=30)


def epochs_of(server: RunningServer) -> int:
    return int(server.json("/info/")["train_stats"]["unet"].get("epoch", 0))


def runs(models: Path) -> list[Path]:
    return sorted((models / "unet" / "runs").iterdir())


def test_a_stopped_training_resumes(server: RunningServer) -> None:
    begin_training(server)
    wait_until(lambda: epochs_of(server) >= 2, timeout_s=60)
    assert server.request("DELETE", "/train/").json()["status"] == "STOPPED"
    reached = epochs_of(server)
    assert not (server.models / "unet" / "model.safetensors").exists()
    begin_training(server)
    wait_until(lambda: epochs_of(server) > reached, timeout_s=60)
    assert len(runs(server.models)) == 1
    server.request("DELETE", "/train/")


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_an_invalid_setting_stops_the_server_with_a_clear_message(studies: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("ct2pet_app", studies, free_port(), models="cascade9", models_folder=tmp_path),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=90)
    finally:
        stop_process(process)
    assert process.returncode not in (0, None)
    assert b"ct2pet cannot start: " in output
    assert b"no model cascade9; did you mean cascade6?" in output
    assert b"Traceback" not in output


def test_a_training_ends_when_its_server_is_killed(server: RunningServer) -> None:
    """Must be the last test of this file: it kills the server."""
    begin_training(server)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(server.process.pid)], capture_output=True, text=True)
    children = [int(pid) for pid in listed.stdout.split()]
    reached = epochs_of(server)
    wait_until(lambda: epochs_of(server) > reached, timeout_s=60)
    assert any(alive(pid) for pid in children)
    os.kill(server.process.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in children), timeout_s=15)
