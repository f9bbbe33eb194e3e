"""`import-onnx`, `export-onnx` and `export-bundle`, typed as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lib.imaging.files.volume_file import read_volume_file
from lib.imaging.volume import Unit
from tests.cli.runner import refused, run, run_json
from tests.networks.external.onnx_files import picking


def test_out_and_in_again_without_options(
    studies: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lib.networks.precision.has_bfloat16", lambda device_type: False)  # compare in float32
    done = run_json(capsys, "export-onnx", model, "--out", tmp_path / "ours.onnx")
    assert done["max_difference_suv"] < 1e-3 and len(done["weights_sha256"]) == 64
    again = tmp_path / "again.safetensors"
    card = run_json(capsys, "import-onnx", tmp_path / "ours.onnx", "--out", again, "--name", "again")
    assert card["name"] == "again" and card["scores"] == run_json(capsys, "card", model)["scores"]
    pets = []
    for path in (model, again):
        out = tmp_path / f"{path.stem}.nrrd"
        ct = studies / "PHANTOM_0002" / "CT"
        assert run(capsys, "synthesize", ct, "--model", path, "--out", out, "--slices", "3:5")[0] == 0
        pets.append(read_volume_file(out, unit=Unit.SUV_BW).array)
    np.testing.assert_allclose(pets[1], pets[0], atol=1e-3)


def test_another_programs_network_is_judged_and_evaluated(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for patient in ("PHANTOM_0001", "PHANTOM_0002"):  # of the training and the test side
        shutil.copytree(studies / patient, tmp_path / "studies" / patient)
    studies = tmp_path / "studies"
    (tmp_path / "rival.onnx").write_bytes(picking([0, 1, 2], 3))
    (tmp_path / "LICENSE").write_text("MIT\n")
    out = tmp_path / "rival.safetensors"
    code, shown, err = run(
        capsys, "import-onnx", tmp_path / "rival.onnx", "--out", out, "--ct-window", "-900:200", "--formula", "7*x^2",
        "--output-range", "0:1", "--pixel-mm", 6.4, "--license", tmp_path / "LICENSE", "--baselines-from", studies,
    )  # fmt: skip
    assert code == 0, err
    assert "1 test patients" in shown and f"{out}: rival" in shown.replace("\n", "")
    shown = run(capsys, "card", out)[1]
    assert "fitted on 1 other patient" in shown and "SUVbw = 7*x^2" in shown and "MIT" in shown
    result = run_json(
        capsys, "evaluate", studies, "--model", out, "--out", tmp_path / "report", "--compare", f"itself={out}"
    )
    seen = {patient["patient_id"]: patient["seen"] for patient in result["patients"]}
    assert seen == {"PHANTOM_0001": "train", "PHANTOM_0002": "no"} and result["judged_patients"] == 1
    first, second = result["patients"]
    assert first["absent_peers"] == {"itself": "itself was trained or validated on this patient"}
    assert second["absent_peers"] == {} and result["beside"]["itself"]["patients"] == 1
    report = (tmp_path / "report" / "report.html").read_text()
    assert "on which patients it was trained is unknown" in report


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ct-window", "200"), "--ct-window '200': expected LOW:HIGH"),
        (("--pixel-mm", "2", "--formula", "1/x"), "formula '1/x'"),
        ((), "the pixel size of an imported network is unknown"),
        (("--pixel-mm", "2", "--baselines-from", "nowhere"), "nowhere"),
    ],
)
def test_what_is_refused(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(picking([0], 1))
    out = tmp_path / "a.safetensors"
    assert words in refused(capsys, "import-onnx", tmp_path / "a.onnx", "--out", out, *options)
    assert not out.exists()


def test_files_that_are_not_onnx(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    assert "cannot be read" in refused(capsys, "import-onnx", tmp_path / "none.onnx", "--out", out)
    assert "ONNX file" in refused(capsys, "import-onnx", model, "--out", out, "--size", 64)


def test_a_bundle(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "export-bundle", model, "--out", tmp_path / "b")["out"] == str(tmp_path / "b")
    inference = json.loads((tmp_path / "b" / "configs" / "inference.json").read_text())
    assert (inference["inferer"]["pixel_mm"], inference["inferer"]["context_slices"]) == (6.4, 3)
    assert "exists" in refused(capsys, "export-bundle", model, "--out", tmp_path / "b")
