"""The option `--labels` of `phantom`, `prepare`, `train` and `evaluate`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.imaging.files.label_file import write_label_file
from lib.pairing.prepared import PreparedSet
from lib.phantom.generate import phantom_patient
from lib.phantom.organs import NIFTI_FILE, SEG_FILE, phantom_organs
from tests.cli.runner import COARSE, SETTINGS, refused, run, run_json


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of two of the four patients."""
    root = tmp_path_factory.mktemp("labels")
    for number in (1, 2):
        patient = phantom_patient(number, 0, COARSE)
        write_label_file(phantom_organs(patient), root / f"{patient.patient_id}.nii.gz")
    return root


def test_phantom_writes_both_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = run_json(capsys, "phantom", tmp_path, "--patients", 1, "--slices", 2, "--labels")
    assert Path(folder, NIFTI_FILE).is_file() and Path(folder, SEG_FILE).is_file()


def test_organs_from_arrays_to_the_table(
    studies: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "arrays"
    report = run_json(capsys, "prepare", studies, "--out", out, "--labels", labels, *SETTINGS)
    assert [failed["patient_id"] for failed in report["without_organs"]] == ["PHANTOM_0003", "PHANTOM_0007"]
    assert sum(bool(pair.organs) for pair in PreparedSet.open(out).pairs) == 2
    settings = [*SETTINGS, "--set", "epochs=1"]
    assert run(capsys, "train", out, "--out", tmp_path / "run", *settings)[0] == 0
    model = tmp_path / "run" / "model.safetensors"
    code, printed, err = run(
        capsys, "evaluate", studies, "--model", model, "--out", tmp_path / "report", "--labels", labels
    )
    assert code == 0, err
    rows = {line.split()[0]: line for line in printed.replace("│", " ").splitlines() if line.split()}
    assert "median SUV per organ" in printed and "heart_myocardium" in rows and "lung" in rows
    assert "no organs: PHANTOM_0003: no label map of CT" in err


def test_labels_belong_to_studies_that_exist(
    studies: Path, arrays: Path, model: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "train", arrays, "--out", tmp_path / "run", "--labels", labels, *SETTINGS)
    assert "give --labels to `prepare`" in error
    error = refused(
        capsys, "evaluate", studies, "--model", model, "--out", tmp_path / "report", "--labels", tmp_path / "absent"
    )
    assert "absent: no such folder" in error
