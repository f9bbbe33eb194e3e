"""`evaluate` on phantoms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.files import file_checksum
from tests.cli.runner import refused, run, run_json

REPOSITORY = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.usefixtures("own_cache")


def test_evaluate_takes_means_over_unseen_patients(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures"
    result = run_json(capsys, "evaluate", studies, "--model", model, "--out", out, "--note", "phantoms")
    assert result == json.loads((out / "evaluation.json").read_text())
    assert {patient["patient_id"]: patient["seen"] for patient in result["patients"]} == {
        "PHANTOM_0001": "train", "PHANTOM_0002": "no", "PHANTOM_0003": "train", "PHANTOM_0007": "validation",
    }  # fmt: skip
    assert result["judged_patients"] == 1 and list(result["baselines"]) == ["zero", "constant", "hu_mean", "hu_median"]
    assert result["model"] == {"name": "quantitative-2", "sha256": file_checksum(model)}
    assert len({path.name.split("-")[0] for path in out.glob("*.png")}) == 4 and (out / "patients.csv").is_file()


def test_evaluate_prints_tables(studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(studies / "PHANTOM_0001", tmp_path / "studies" / "1")
    shutil.copytree(studies / "PHANTOM_0002", tmp_path / "studies" / "2")
    code, out, _ = run(capsys, "evaluate", tmp_path / "studies", "--model", model, "--out", tmp_path / "figures")
    assert code == 0
    assert "PHANTOM_0001 (in the train set, excluded from the means)" in out and "mean of 1 patients" in out
    assert sum("mean SUV per HU" in line and "│" in line for line in out.splitlines()) == 3  # two patients and the mean
    assert "Lesions above SUV 2.5: Of" in out and "Lesions above 41 % of the maximum: Of" in out
    assert "one patient gives no confidence interval" in out
    assert out.endswith(f"report: {tmp_path / 'figures' / 'report.html'}\n")


def test_evaluate_on_seen_patients_exits_with_2(
    studies: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "evaluate", studies / "PHANTOM_0001", "--model", model, "--out", tmp_path / "figures")
    assert "give studies of other patients" in error


@pytest.mark.slow
def test_in_a_process_stdout_is_json_and_stderr_is_empty(studies: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", studies / "PHANTOM_0002", "--model", model, "--out", tmp_path / "figures", "--json"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "main.py"), *map(str, arguments)],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["judged_patients"] == 1
