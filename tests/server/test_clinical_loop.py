"""The loop of a clinic on a real PACS with real patients: train, synthesise, store, a new pair, retrain, roll back."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.orthanc import PASSWORD, USER, Orthanc, running_orthanc
from tests.server.processes import RunningServer, running_server

# Of ../shared/data/sts, those with the fewest files of each side of the hash split: four train, one is for validation,
# one for tests
SIX = ("STS_001", "STS_002", "STS_006", "STS_008", "STS_012", "STS_019")
SEVENTH = "STS_023"
SMALL = "pixel_mm=4;base_channels=4;depth=2;context_slices=1;epochs=2;warmup_epochs=0.1;patience=0;batches.size=16"
SEEN_TIMEOUT_S = 60.0  # the issue's own figure: new studies appear within a minute

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], sts_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An Orthanc that holds CT and PET of six patients."""
    held = [sts_folder / patient / kind / "image" for patient in SIX for kind in ("CT", "PET")]
    with running_orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc"), *held) as running:
        yield running


@pytest.fixture(scope="module")
def server(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Our server on that Orthanc."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_DATASTORE_USERNAME", USER)
        patch.setenv("MONAI_LABEL_DATASTORE_PASSWORD", PASSWORD)
        patch.setenv("MONAI_LABEL_DATASTORE_CACHE_PATH", str(folder / "cache"))
        with running_server("ct2pet_app", orthanc.url, folder, models="unet", set=SMALL) as running:
            yield running


def test_the_loop_of_a_clinic(server: RunningServer, orthanc: Orthanc, sts_folder: Path) -> None:
    wait_for(server, total=6, completed=6)
    first = trained(server)
    sides = split_of(server)
    assert len(sides) == 6 and set(sides.values()) == {"train", "validation", "test"}

    orthanc.upload(sts_folder / SEVENTH / "CT" / "image")
    wait_for(server, total=7, completed=6)
    ct = ct_without_pet(server)
    for _ in range(2):  # the second store changes nothing
        told = infer(server, ct, store=True)
    assert told["model"]["checksum"] == first and told["metrics"] is None
    assert orthanc.count(SeriesInstanceUID=told["series"]["series_instance_uid"]) == 1
    assert wait_for(server, total=7)["completed"] == 6  # a synthetic PET makes no pair

    orthanc.upload(sts_folder / SEVENTH / "PET" / "image")
    status = wait_for(server, total=7, completed=7)
    assert status["pairs"]["total"] == 7
    second = trained(server)
    after = split_of(server)
    assert len(after) == 7 and {patient: after[patient] for patient in sides} == sides

    told = server.json("/ct2pet/models/unet")
    assert [version["checksum"] for version in told["versions"]] == [first, second] and first != second
    assert infer(server, ct)["model"]["checksum"] == second
    answer = server.ask("POST", "/ct2pet/models/unet/rollback")
    assert answer.status_code == 200, answer.text
    told = infer(server, ct)
    assert told["model"]["checksum"] == first
    assert told["metrics"]["model"]["mae_suv_body"] > 0  # there is a real PET to compare with by now


def trained(server: RunningServer) -> str:
    """Train on all pairs, and return the checksum of what is served then.

    It is served whatever its figures: two epochs of a tiny network need not beat anybody.
    """
    answer = server.ask("POST", "/train/unet", json={"publish": "always", "max_epochs": 2})
    assert answer.status_code == 200, answer.text
    task = server.wait_for_training(timeout_s=600)
    assert task["status"] == "DONE", task["details"]
    return str(server.json("/ct2pet/models/unet")["checksum"])


def infer(server: RunningServer, ct: str, **params: Any) -> dict[str, Any]:
    """Return what is told about a synthetic PET."""
    answer = server.infer("unet", image=ct, params=json.dumps(params), output="json")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ct_without_pet(server: RunningServer) -> str:
    """Return the one CT that nobody measured a PET for."""
    (ct,) = (uid for uid, entry in server.json("/datastore/?output=all")["objects"].items() if not entry["labels"])
    return str(ct)


def split_of(server: RunningServer) -> dict[str, str]:
    """Return the side of each patient, as the file says that a person may read."""
    with (server.models / "split.csv").open(newline="", encoding="utf-8-sig") as file:
        return {row["patient_id"]: row["side"] for row in csv.DictReader(file)}


def wait_for(server: RunningServer, **counts: int) -> dict[str, Any]:
    """Return the datastore's status once it counts so many, without anybody asking it to look again."""
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while True:
        status: dict[str, Any] = server.json("/datastore/")
        if counts.items() <= status.items():
            return status
        assert time.monotonic() < deadline, f"after a minute the datastore says {status}, expected {counts}"
        time.sleep(1)
