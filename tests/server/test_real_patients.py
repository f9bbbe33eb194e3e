"""The real server on five real patients: start, datastore, training, inference, uploads, MONAI Label's own client."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from monailabel.client import MONAILabelClient

from lib.dicom.read.volume import read_ct
from lib.dicom.scan.scan import ScanReport, scan_folder
from lib.imaging.files.volume_file import read_volume_file, write_volume_file
from lib.imaging.volume import Unit, Volume
from tests.server.processes import START_TIMEOUT_S, RunningServer, running_server
from tests.server.test_clinical_loop import FOUR

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # MONAILabelClient closes neither files nor sockets
]

# the smallest training that still runs every step
SMALL = "pixel_mm=5.0;depth=2;context_slices=3;epochs=1;patience=0"
TRAIN_TIMEOUT_S = 600.0
# of ../shared/data/sts: the patient for inference, and those with the fewest files
PATIENTS = ("STS_042", *FOUR)


@pytest.fixture(scope="module")
def server(sts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server started from the repository root, as in the README."""
    folder = tmp_path_factory.mktemp("server")
    for patient in PATIENTS:
        shutil.copytree(sts_folder / patient, folder / "studies" / patient)
    conf = {"models": "unet,cascade3", "width": "4", "set": SMALL}
    with running_server("ct2pet_app", folder / "studies", folder, is_forked=False, **conf) as running:
        yield running


@pytest.fixture(scope="module")
def report(sts_folder: Path) -> ScanReport:
    return scan_folder(sts_folder / "STS_042")


@pytest.fixture(scope="module")
def ct_uid(report: ScanReport) -> str:
    return report.usable("CT")[0].series.uid


@pytest.fixture(scope="module")
def ct(report: ScanReport) -> Volume:
    """The CT of STS_042: 49 slices of 162 x 134."""
    return read_ct(report.usable("CT")[0].series)


@pytest.fixture(scope="module")
def trained(server: RunningServer) -> dict[str, Any]:
    """The ended training task of cascade3."""
    settings = {"max_epochs": 1, "publish": "always"}  # one epoch of a tiny network beats no baseline
    assert server.request("POST", "/train/cascade3", json=settings).status_code == 200
    return server.wait_for_training(timeout_s=TRAIN_TIMEOUT_S)


@pytest.fixture(scope="module")
def full(server: RunningServer, trained: dict[str, Any], ct_uid: str, tmp_path_factory: Any) -> tuple[Volume, Any]:
    """The synthetic PET of the CT through MONAI Label's own client, and its metadata."""
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path_factory.mktemp("client")))
    path, metadata = client.infer(
        "cascade3", ct_uid, {"result_dtype": "uint8"}
    )  # as the stock Slicer module requests it
    assert sitk.ReadImage(path).GetPixelID() == sitk.sitkFloat32
    return read_volume_file(Path(path), unit=Unit.SUV_BW), metadata


def test_the_server_starts_within_a_minute(server: RunningServer) -> None:
    assert server.started_in_s < START_TIMEOUT_S
    assert server.json("/info/")["name"] == "ct2pet"


def test_every_patient_has_a_pair(server: RunningServer) -> None:
    status = server.json("/datastore/")
    assert (status["total"], status["completed"]) == (len(PATIENTS), len(PATIENTS))


def test_an_untrained_model_is_listed_and_its_error_names_the_training_endpoint(
    server: RunningServer, ct_uid: str
) -> None:
    metadata = server.json("/info/")["models"]["unet"]
    assert metadata["description"].startswith("untrained: ")
    response = server.infer("unet", image=ct_uid)
    assert response.status_code == 409
    assert "POST /train/unet" in response.json()["detail"]


def test_training_ends_and_publishes_the_model(server: RunningServer, trained: dict[str, Any]) -> None:
    assert trained["status"] == "DONE", trained
    stats = server.json("/info/")["train_stats"]["cascade3"]
    assert (stats["epoch"], stats["total_epochs"], stats["published"]) == (1, 1, True)
    assert (server.models / "cascade3" / "model.safetensors").is_file()
    assert any("training cascade3: 100 %" in line for line in trained["details"])


def test_the_synthetic_pet_has_the_grid_of_the_ct_and_is_suv(full: tuple[Volume, Any], ct: Volume) -> None:
    pet, metadata = full
    assert pet.geometry.shape == ct.geometry.shape
    assert np.abs(pet.geometry.corners_mm() - ct.geometry.corners_mm()).max() < 1e-4
    assert pet.array.std() > 0
    assert pet.array.min() >= 0
    assert (metadata["unit"], metadata["synthetic"]) == ("SUVbw", True)
    assert metadata["suv"]["max"] == pytest.approx(float(pet.array.max()), rel=1e-6)


def test_the_metadata_contain_model_card_latencies_and_metrics_of_baselines(full: tuple[Volume, Any]) -> None:
    _, metadata = full
    assert metadata["model"]["card"]["network"]["stages"] == 3
    assert metadata["latencies"]["total"] > 0
    assert set(metadata["metrics"]) == {"model", "zero", "constant", "hu_mean", "hu_median"}
    assert metadata["metrics"]["model"]["mae_suv_body"] > 0


def test_the_monai_label_client_reads_datastore_and_training_status(
    server: RunningServer, trained: dict[str, Any], ct_uid: str
) -> None:
    client = MONAILabelClient(server.url)
    assert client.info()["models"]["cascade3"]["trained"] is True
    assert set(client.datastore()["objects"][ct_uid]["labels"]) == {"final"}
    assert client.train_status()["status"] == "DONE"


def test_a_slab_equals_the_same_slices_of_the_full_volume(
    server: RunningServer, full: tuple[Volume, Any], ct_uid: str, tmp_path: Path
) -> None:
    response = server.infer("cascade3", params='{"slices": "20:27"}', image=ct_uid, output="image")
    (tmp_path / "slab.nrrd").write_bytes(response.content)
    slab = read_volume_file(tmp_path / "slab.nrrd", unit=Unit.SUV_BW)
    expected = full[0].slab(slice(20, 27))
    assert slab.geometry.same_grid_as(expected.geometry, tolerance_mm=1e-4)
    np.testing.assert_allclose(slab.array, expected.array, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_an_uploaded_ct_gives_the_same_pet_as_its_series(
    server: RunningServer, full: tuple[Volume, Any], ct: Volume, tmp_path: Path, suffix: str
) -> None:
    upload = write_volume_file(ct, tmp_path / f"ct{suffix}")
    with upload.open("rb") as file:
        response = server.infer("cascade3", files={"file": (upload.name, file)}, output="image")
    (tmp_path / "pet.nrrd").write_bytes(response.content)
    pet = read_volume_file(tmp_path / "pet.nrrd", unit=Unit.SUV_BW)
    assert pet.geometry.same_grid_as(ct.geometry, tolerance_mm=1e-3)
    np.testing.assert_allclose(pet.array, full[0].array, rtol=1e-3, atol=1e-3)


def test_the_requests_of_the_stock_slicer_module_work(
    server: RunningServer, trained: dict[str, Any], ct: Volume, tmp_path: Path
) -> None:
    upload = write_volume_file(ct, tmp_path / "Thorax.nii.gz")
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    assert client.upload_image(str(upload), "Thorax") == {"image": "Thorax"}
    path, _ = client.infer("cascade3", "Thorax", {"result_extension": ".nrrd", "result_dtype": "uint8"})
    assert sitk.ReadImage(path).GetPixelID() == sitk.sitkFloat32
    session = client.create_session(str(upload))["session_id"]
    path, metadata = client.infer("cascade3", "", {"result_extension": ".nii.gz"}, session_id=session)
    assert path.endswith(".nii.gz")
    assert metadata["metrics"] is None


def test_the_server_responds_during_an_inference(server: RunningServer, trained: dict[str, Any]) -> None:
    slowest_uid = max(
        server.json("/datastore/?output=all")["objects"].items(), key=lambda item: item[1]["image"]["info"]["slices"]
    )[0]
    responses: list[requests.Response] = []
    inference = threading.Thread(target=lambda: responses.append(server.infer("cascade3", image=slowest_uid)))
    began = time.monotonic()
    inference.start()
    latencies_s = []
    while inference.is_alive():
        sent_at = time.monotonic()
        server.json("/info/")
        latencies_s.append(time.monotonic() - sent_at)
    took_s = time.monotonic() - began
    assert responses[0].status_code == 200
    assert len(latencies_s) >= 2, f"/info/ waited for the inference of {took_s:.1f} s"
    assert max(latencies_s) < max(1.0, took_s / 2)
