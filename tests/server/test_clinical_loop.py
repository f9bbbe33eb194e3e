"""The clinical loop on a real PACS with real patients: train, synthesise, store, add a pair, retrain, roll back."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.orthanc import Orthanc, running_orthanc, server_of_pacs
from tests.server.processes import RunningServer

# The patients of ../shared/data/sts with the fewest files on each side of the hash split: two for training, one for
# validation, one for tests
FOUR = ("STS_002", "STS_006", "STS_008", "STS_019")
FIFTH = "STS_023"
SMALL = "pixel_mm=4;base_channels=4;depth=2;context_slices=1;epochs=2;warmup_epochs=0.1;patience=0;batches.size=16"
LISTED_TIMEOUT_S = 60.0  # new studies must appear within a minute

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], sts_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc with CT and PET of four patients."""
    held = [sts_folder / patient / kind / "image" for patient in FOUR for kind in ("CT", "PET")]
    with running_orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc"), *held) as running:
        yield running


@pytest.fixture(scope="module")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server with that Orthanc as its datastore."""
    with server_of_pacs(orthanc, tmp_path_factory.mktemp("server"), models="unet", set=SMALL) as running:
        yield running


def test_the_clinical_loop(server: RunningServer, orthanc: Orthanc, sts_folder: Path) -> None:
    wait_for(server, total=4, completed=4)
    first = trained(server)
    sides = split_of(server)
    assert len(sides) == 4 and set(sides.values()) == {"train", "validation", "test"}

    orthanc.upload(sts_folder / FIFTH / "CT" / "image")
    wait_for(server, total=5, completed=4)
    ct = ct_without_pet(server)
    for _ in range(2):  # the second store changes nothing
        metadata = infer(server, ct, store=True)
    assert metadata["model"]["checksum"] == first and metadata["metrics"] is None
    assert orthanc.count(SeriesInstanceUID=metadata["series"]["series_instance_uid"]) == 1
    assert wait_for(server, total=5)["completed"] == 4  # a synthetic PET is not paired

    orthanc.upload(sts_folder / FIFTH / "PET" / "image")
    status = wait_for(server, total=5, completed=5)
    assert status["pairs"]["total"] == 5
    second = trained(server)
    after = split_of(server)
    assert len(after) == 5 and {patient: after[patient] for patient in sides} == sides

    versions = server.json("/ct2pet/models/unet")["versions"]
    assert [version["checksum"] for version in versions] == [first, second] and first != second
    assert infer(server, ct)["model"]["checksum"] == second
    response = server.request("POST", "/ct2pet/models/unet/rollback")
    assert response.status_code == 200, response.text
    metadata = infer(server, ct)
    assert metadata["model"]["checksum"] == first
    assert metadata["metrics"]["model"]["mae_suv_body"] > 0  # now there is a real PET to compare with


def trained(server: RunningServer) -> str:
    """Train on all pairs and return the checksum of the served model.

    `publish: always` serves it whatever its metrics: two epochs of a tiny network need not beat a baseline.
    """
    response = server.request("POST", "/train/unet", json={"publish": "always", "max_epochs": 2})
    assert response.status_code == 200, response.text
    task = server.wait_for_training(timeout_s=600)
    assert task["status"] == "DONE", task["details"]
    return str(server.json("/ct2pet/models/unet")["checksum"])


def infer(server: RunningServer, ct: str, **params: Any) -> dict[str, Any]:
    """Return the metadata of a synthetic PET."""
    response = server.infer("unet", image=ct, params=json.dumps(params), output="json")
    assert response.status_code == 200, response.text
    return dict(response.json())


def ct_without_pet(server: RunningServer) -> str:
    """Return the only CT without a real PET."""
    (ct,) = (uid for uid, entry in server.json("/datastore/?output=all")["objects"].items() if not entry["labels"])
    return str(ct)


def split_of(server: RunningServer) -> dict[str, str]:
    """Return the side of the split of each patient, as written in split.csv."""
    with (server.models / "split.csv").open(newline="", encoding="utf-8-sig") as file:
        return {row["patient_id"]: row["side"] for row in csv.DictReader(file)}


def wait_for(server: RunningServer, **counts: int) -> dict[str, Any]:
    """Wait until the datastore reports these counts without a reload, and return its status."""
    deadline = time.monotonic() + LISTED_TIMEOUT_S
    while True:
        status: dict[str, Any] = server.json("/datastore/")
        if counts.items() <= status.items():
            return status
        assert time.monotonic() < deadline, f"after a minute the datastore reports {status}, expected {counts}"
        time.sleep(1)
