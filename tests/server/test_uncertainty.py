"""The map of errors to expect over HTTP: a further part of the answer, or its only file."""

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
    """Its cascade3 draws 2.0 SUV everywhere and expects errors of 0.5 SUV; its unet expects nothing."""
    folder = tmp_path_factory.mktemp("server")
    with running_server("ct2pet_app", studies, folder, models="unet,cascade3") as running:
        for name, stages, curve in (("cascade3", 3, CURVE), ("unet", 1, None)):
            model = save_constant_model(folder / f"{name}.safetensors", 2.0, stages=stages, calibration=curve)
            answer = running.ask("PUT", f"/model/{name}", files={"file": model.read_bytes()})
            assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture(scope="module")
def ct_uid(studies: Path) -> str:
    return scan_folder(studies).usable("CT")[0].series.uid


def volume(content: bytes, path: Path) -> Volume:
    path.write_bytes(content)
    return read_volume_file(path, unit=Unit.SUV_BW)


def is_left_behind(server: RunningServer) -> bool:
    """Whether results still lie on the server a moment after the answer: they are removed once it is sent."""
    deadline = time.monotonic() + 5
    while list((server.models / "results").iterdir()):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def test_it_comes_as_a_part_behind_the_pet(server: RunningServer, ct_uid: str, tmp_path: Path) -> None:
    answer = server.infer("cascade3", params='{"uncertainty": true, "slices": "1:4"}', image=ct_uid)
    assert answer.status_code == 200, answer.text
    told, *files = MultipartDecoder.from_response(answer).parts
    names = [part.headers[b"Content-Disposition"].decode() for part in files]
    assert 'name="image"' in names[0] and 'name="uncertainty"' in names[1]
    said = json.loads(told.content)["uncertainty"]
    assert f'filename="{said["file"]}"' in names[1]
    pet, error = (volume(part.content, tmp_path / f"{k}.nrrd") for k, part in enumerate(files))
    assert error.geometry.same_grid_as(pet.geometry, tolerance_mm=1e-4)
    assert (pet.array.max(), error.array.max()) == pytest.approx((2.0, 0.5), rel=1e-2)
    assert not is_left_behind(server)


def test_monai_labels_client_gets_the_pet_and_is_told_of_the_map(
    server: RunningServer, ct_uid: str, tmp_path: Path
) -> None:
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    path, told = client.infer("cascade3", ct_uid, {"uncertainty": True})
    assert read_volume_file(Path(path), unit=Unit.SUV_BW).array.max() == pytest.approx(2.0, rel=1e-2)
    assert told["uncertainty"]["suv"]["max"] == pytest.approx(0.5, rel=1e-2)


def test_monai_labels_client_gets_the_map_alone(server: RunningServer, ct_uid: str, tmp_path: Path) -> None:
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    path, told = client.infer("cascade3", ct_uid, {"uncertainty": "only", "result_dtype": "uint8"})
    assert Path(path).name == told["uncertainty"]["file"]
    assert read_volume_file(Path(path), unit=Unit.SUV_BW).array.max() == pytest.approx(0.5, rel=1e-2)
    answer = server.infer("cascade3", params='{"uncertainty": "only"}', image=ct_uid, output="image")
    assert volume(answer.content, tmp_path / "alone.nrrd").array.max() == pytest.approx(0.5, rel=1e-2)


def test_words_alone_leave_no_file(server: RunningServer, ct_uid: str) -> None:
    told = server.infer("cascade3", params='{"uncertainty": true}', image=ct_uid, output="json").json()
    assert told["uncertainty"]["suv"]["max"] == pytest.approx(0.5, rel=1e-2)
    assert not is_left_behind(server)


@pytest.mark.parametrize(
    ("model", "params", "output", "words"),
    [
        ("cascade3", '{"uncertainty": true}', "image", "output=image is one file"),
        ("cascade3", '{"uncertainty": "much"}', "all", "expected true or false, or only"),
        ("unet", '{"uncertainty": true}', "all", "constant-1 carries no calibration"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_way_out(
    server: RunningServer, ct_uid: str, model: str, params: str, output: str, words: str
) -> None:
    answer = server.infer(model, params=params, image=ct_uid, output=output)
    assert (answer.status_code, words in answer.json()["detail"]) == (400, True), answer.text
