"""scripts/benchmark: every part runs and compares; no test depends on the times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.dicom.scan.scan import scan_folder
from scripts.benchmark import main, measure
from scripts.benchmarks.arguments import PARTS, for_part, parse
from scripts.benchmarks.measure import Figure, Ratio, Result, alternate, divide
from scripts.benchmarks.page import write_page
from scripts.benchmarks.parts.scan import copy_studies
from tests.conftest import REPOSITORY
from tests.viewer.chromium import find_chromium

QUICK = ("--quick", "--device", "cpu")
# what our packages import, and a bare GPU machine lacks
LACKING = (
    "pydicom", "SimpleITK", "nibabel", "scipy", "skimage", "matplotlib", "pydantic", "requests", "psutil", "typer",
    "rich", "monailabel", "fastapi", "onnx", "onnxruntime", "tensorboard", "mlflow",
)  # fmt: skip
BARE_PROGRAM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({LACKING}))  # importing one of them is an ImportError
runpy.run_path("scripts/benchmark.py", run_name="__main__")
"""


def run_part(part: str) -> dict[str, Any]:
    """Return the JSON of a part at tiny sizes."""
    return dict(json.loads(json.dumps(measure(part, for_part(parse([part, *QUICK]), part)))))


def check(result: dict[str, Any]) -> None:
    """Check the header, and that every measured value is stated with its spread."""
    machine = result["machine"]
    assert {"date", "device", "cpu", "cores", "load_1_min_before", "torch_threads", "versions"} <= set(machine)
    assert {"torch", "monai", "numpy"} <= set(machine["versions"])
    assert result["run"]
    for row in [*result["figures"], *result["ratios"]]:
        assert row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
    assert result["ratios"]


def medians(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(row["of"], row["name"]): row["median"] for row in result["figures"]}


def test_a_bare_machine_runs_what_needs_a_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BARE_PROGRAM, "all", "--gpu", *QUICK, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY, timeout=500)
    results = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert set(results) == {f"gpu-{name}.json" for name, part in PARTS.items() if part.is_bare}
    for result in results.values():
        check(result)
    assert results["gpu-runtime.json"]["run"]["gflop_per_slice"] > 0
    names = [row["name"] for row in results["gpu-cascade.json"]["ratios"]]
    assert names == ["2 stages, per stage / one stage"]
    assert results["gpu-training.json"]["run"]["slices"]["with validation patients"]["validation"] > 0


def test_a_part_that_needs_dicom_is_refused_with_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["scan", "--gpu"])
    assert "leave out --gpu" in capsys.readouterr().err


def test_a_volume_is_measured_by_step_and_equals_the_peers(tmp_path: Path) -> None:
    result = run_part("synthesis")
    check(result)
    found = medians(result)
    steps = {name for of, name in found if of == "ct2pet by step"}
    assert steps == {"scan and plan", "read", "network", "resample", "write"}
    assert found["MONAI SliceInferer", "mean inside the body"] > 0
    assert found["ct2pet in float32", "largest difference inside the body"] < 0.001
    assert {row["name"] for row in result["ratios"]} >= {"network: MONAI SliceInferer / ct2pet"}
    (tmp_path / "synthesis.json").write_text(json.dumps(result))
    page = write_page(tmp_path).read_text()
    assert "| ct2pet by step | resample |" in page
    assert "(time-by-step.png)" in page
    assert (tmp_path / "time-by-step.png").stat().st_size > 0


@pytest.mark.parametrize("part", ["scan", "memory", "neighbours"])
def test_a_part_is_measured(part: str) -> None:
    check(run_part(part))


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("part", ["slabs", "server", "during-training"])
def test_a_part_with_the_real_server_is_measured(part: str, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/benchmark.py", part, *QUICK, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY, timeout=500)
    check(json.loads((tmp_path / f"{part}.json").read_text()))


@pytest.mark.server
@pytest.mark.slow
def test_the_viewer_is_measured(tmp_path: Path) -> None:
    find_chromium()
    command = [sys.executable, "scripts/benchmark.py", "viewer", *QUICK, "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True, cwd=REPOSITORY, timeout=500)
    result = json.loads((tmp_path / "viewer.json").read_text())
    check(result)
    found = medians(result)
    assert 0 < found["CT not read before", "first slab on screen"] <= found["CT not read before", "all slabs"]


def test_copied_studies_are_all_different_and_usable(tmp_path: Path) -> None:
    assert copy_studies(tmp_path, instances=300) == 300
    report = scan_folder(tmp_path)
    assert [len(found.series.files) for found in report.series] == [50] * 6
    assert len({study.patient_id for study in report.studies}) == 3
    assert all(found.is_usable for found in report.series)


def test_without_konfai_the_peer_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CT2PET_KONFAI", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "argv", ["benchmark", "synthesis", "--peer", "konfai", *QUICK])
    assert main() == 2
    assert "pip install -r scripts/konfai/requirements.txt" in capsys.readouterr().err


def test_rivals_take_turns_and_each_round_begins_with_another() -> None:
    calls: list[str] = []
    rivals = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    durations = alternate(rivals, repeats=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(of_rival) for name, of_rival in durations.items()} == {"a": 3, "b": 3, "c": 3}


def test_median_quartiles_and_ratios() -> None:
    ratio = Ratio("a / b", divide((2.0, 9.0, 8.0, 5.0, 4.0), (2.0, 3.0, 4.0, 1.0, 1.0)), at_least=3.0)  # 1 3 2 5 4
    row = Result({}, [Figure("slice", "ms", (7.0,))], [ratio]).as_json()
    assert row["ratios"][0] == {
        "name": "a / b", "median": 3.0, "lower_quartile": 2.0, "upper_quartile": 4.0, "values": 5,
        "at_least": 3.0, "at_most": None, "reached": True,
    }  # fmt: skip
    assert row["figures"][0]["median"] == row["figures"][0]["lower_quartile"] == 7.0


@pytest.mark.parametrize(("value", "reached"), [(1.0, True), (1.1, False)])
def test_a_target_of_at_most(value: float, reached: bool) -> None:
    assert Ratio("a", (value,), at_most=1.0).is_reached is reached
