"""The map of expected errors over HTTP: an additional part of the response, or its only file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from monailabel.client import MONAILabelClient
from requests_toolbelt import MultipartDecoder

from lib.dicom.scan.scan import scan_folder
from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit, Volume
from lib.metrics.calibration import Calibration
from lib.phantom.generate import PhantomSettings, write_phantoms
from tests.ct2pet_app.constant_model import save_constant_model
from tests.server.processes import RunningServer, running_server

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # MONAILabelClient closes neither files nor sockets
]

SMALL = PhantomSettings(slices=6, ct_matrix=64, ct_pixel_mm=6.4, pet_matrix=48, pet_pixel_mm=8.5)
CURVE = Calibration(np.array([1.0, 4.0]), np.array([0.25, 1.0]), volumes=5)  # a quarter of the SUV


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_phantoms(folder, patients=1, settings=SMALL)
    return folder


@pytest.fixture(scope="module")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose cascade3 predicts 2.0 SUV with an expected error of 0.5 SUV; its unet has no calibration."""
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", studies, folder, models="unet,cascade3") as running:
        for name, stages, curve in (("cascade3", 3, CURVE), ("unet", 1, None)):
            model = save_constant_model(folder / f"{name}.safetensors", 2.0, stages=stages, calibration=curve)
            response = running.request("PUT", f"/model/{name}", files={"file": model.read_bytes()})
            assert response.status_code == 200, response.text
        yield running


@pytest.fixture(scope="module")
def ct_uid(studies: Path) -> str:
    return scan_folder(studies).usable("CT")[0].series.uid


def volume(content: bytes, path: Path) -> Volume:
    path.write_bytes(content)
    return read_volume_file(path, unit=Unit.SUV_BW)


def results_remain(server: RunningServer) -> bool:
    """Return whether files remain in the results folder 5 s after a response; they are removed once it is sent."""
    deadline = time.monotonic() + 5
    while list((server.models / "results").iterdir()):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def test_the_map_is_the_part_after_the_pet(server: RunningServer, ct_uid: str, tmp_path: Path) -> None:
    response = server.infer("cascade3", params='{"uncertainty": true, "slices": "1:4"}', image=ct_uid)
    assert response.status_code == 200, response.text
    metadata, *files = MultipartDecoder.from_response(response).parts
    names = [part.headers[b"Content-Disposition"].decode() for part in files]
    assert 'name="image"' in names[0] and 'name="uncertainty"' in names[1]
    details = json.loads(metadata.content)["uncertainty"]
    assert f'filename="{details["file"]}"' in names[1]
    pet, error = (volume(part.content, tmp_path / f"{k}.nrrd") for k, part in enumerate(files))
    assert error.geometry.same_grid_as(pet.geometry, tolerance_mm=1e-4)
    assert (pet.array.max(), error.array.max()) == pytest.approx((2.0, 0.5), rel=1e-2)
    assert not results_remain(server)


def test_the_monai_label_client_gets_the_pet_and_metadata_of_the_map(
    server: RunningServer, ct_uid: str, tmp_path: Path
) -> None:
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    path, metadata = client.infer("cascade3", ct_uid, {"uncertainty": True})
    assert read_volume_file(Path(path), unit=Unit.SUV_BW).array.max() == pytest.approx(2.0, rel=1e-2)
    assert metadata["uncertainty"]["suv"]["max"] == pytest.approx(0.5, rel=1e-2)


def test_the_monai_label_client_can_request_only_the_map(server: RunningServer, ct_uid: str, tmp_path: Path) -> None:
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    path, metadata = client.infer("cascade3", ct_uid, {"uncertainty": "only", "result_dtype": "uint8"})
    assert Path(path).name == metadata["uncertainty"]["file"]
    assert read_volume_file(Path(path), unit=Unit.SUV_BW).array.max() == pytest.approx(0.5, rel=1e-2)
    response = server.infer("cascade3", params='{"uncertainty": "only"}', image=ct_uid, output="image")
    assert volume(response.content, tmp_path / "alone.nrrd").array.max() == pytest.approx(0.5, rel=1e-2)


def test_a_json_response_leaves_no_file(server: RunningServer, ct_uid: str) -> None:
    metadata = server.infer("cascade3", params='{"uncertainty": true}', image=ct_uid, output="json").json()
    assert metadata["uncertainty"]["suv"]["max"] == pytest.approx(0.5, rel=1e-2)
    assert not results_remain(server)


@pytest.mark.parametrize(
    ("model", "params", "output", "message"),
    [
        ("cascade3", '{"uncertainty": true}', "image", "output=image is one file"),
        ("cascade3", '{"uncertainty": "much"}', "all", "expected true or false, or only"),
        ("unet", '{"uncertainty": true}', "all", "constant-1 carries no calibration"),
    ],
)
def test_an_impossible_request_is_refused_with_advice(
    server: RunningServer, ct_uid: str, model: str, params: str, output: str, message: str
) -> None:
    response = server.infer(model, params=params, image=ct_uid, output=output)
    assert (response.status_code, message in response.json()["detail"]) == (400, True), response.text
