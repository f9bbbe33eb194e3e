"""A cohort of a real PACS by DICOMweb: read from it, stored in it, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from lib.cohort.manifest import FILE
from tests.cli.runner import refused, run, run_json
from tests.cohort.files import files_of
from tests.server.orthanc import PASSWORD, USER, Orthanc, running_orthanc

Capture = pytest.CaptureFixture[str]
NAMES = ("PHANTOM_0001", "PHANTOM_0002", "PHANTOM_0003")


@pytest.fixture(scope="module")
def orthanc(
    require_program: Callable[[str], str], studies: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """A PACS with three studies."""
    held = [studies / name for name in NAMES]
    with running_orthanc(require_program("Orthanc"), tmp_path_factory.mktemp("orthanc"), *held) as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT2PET_PACS_USERNAME", USER)
    monkeypatch.setenv("CT2PET_PACS_PASSWORD", PASSWORD)


def test_files_equal_those_from_a_folder(
    capsys: Capture, orthanc: Orthanc, other_model: Path, studies: Path, tmp_path: Path
) -> None:
    done = run_json(capsys, "cohort", "run", orthanc.url, "--model", other_model, "--out", tmp_path / "pacs")
    assert (done["counts"]["done"], done["failures"]) == (len(NAMES), [])
    run_json(capsys, "cohort", "run", studies, "--model", other_model, "--out", tmp_path / "folder", "--limit", "0")
    from_pacs, from_folder = files_of(tmp_path / "pacs"), files_of(tmp_path / "folder")
    assert from_pacs and from_pacs.items() <= from_folder.items()
    scanners = run_json(capsys, "cohort", "report", tmp_path / "pacs")["by_scanner"]
    assert [one["studies"] for one in scanners] == [len(NAMES)]  # compared with the real PETs of the PACS


def test_results_are_stored_once_even_without_the_record(
    capsys: Capture, orthanc: Orthanc, model: Path, tmp_path: Path
) -> None:
    before = orthanc.count(Modality="PT")
    command = ("cohort", "run", orthanc.url, "--model", model, "--out", tmp_path, "--store")
    assert run_json(capsys, *command, "--where", "PatientID=PHANTOM_0001")["done"] == 1
    assert run_json(capsys, *command)["done"] == len(NAMES) - 1
    assert orthanc.count(Modality="PT") == before + len(NAMES)
    stored = instances(orthanc)
    assert run_json(capsys, *command)["done"] == 0
    (tmp_path / FILE).unlink()
    again = run_json(capsys, *command)
    assert (again["done"], instances(orthanc)) == (len(NAMES), stored)
    report = Path(run_json(capsys, "cohort", "report", tmp_path)["report"]).read_text()
    assert "3 were in the PACS before" in report and not (tmp_path / "series").exists()


def test_a_pacs_that_is_gone_ends_the_command_and_leaves_the_rest_pending(
    capsys: Capture, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.dicom.remote.session.FIRST_PAUSE_S", 0.0)
    code, out, error = run(capsys, "cohort", "run", "http://127.0.0.1:9/dicom-web", "--model", model, "--out", tmp_path)
    assert (code, out) == (1, "") and "cannot be reached" in error
    assert "both a user name and a token" in token_too(capsys, model, tmp_path, monkeypatch)


def token_too(capsys: Capture, model: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CT2PET_PACS_TOKEN", "token")
    return refused(capsys, "cohort", "run", "http://127.0.0.1:9/dicom-web", "--model", model, "--out", out)


def instances(orthanc: Orthanc) -> int:
    """Return the number of instances in the PACS."""
    url = orthanc.url.replace("/dicom-web", "/statistics")
    response = requests.get(url, auth=(USER, PASSWORD.encode()), timeout=30)
    return int(response.json()["CountInstances"])
