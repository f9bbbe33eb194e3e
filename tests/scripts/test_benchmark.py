"""scripts/benchmark: it runs and reports its metrics; their values are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
SMALL = ("--set", "base_channels=4", "--set", "depth=1")


def benchmark(out: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, BENCHMARK, *arguments, "--device", "cpu", *SMALL, "--out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return dict(json.loads(out.read_text()))


def test_the_network_is_measured(tmp_path: Path) -> None:
    arguments = ("synthesis", "--pixels", "32", "--batch", "1,2", "--precision", "float32", "--repeats", "1")
    results = benchmark(tmp_path / "metrics.json", *arguments)
    assert {"cpus", "torch_threads", "load_1_min_before"} <= set(results["machine"])
    assert [run["batch"] for run in results["runs"]] == [1, 2]
    assert all(run["s_per_slice"] > 0 and run["tflop_per_s"] > 0 for run in results["runs"])


@pytest.mark.server
@pytest.mark.slow
def test_the_server_is_measured(tmp_path: Path) -> None:
    arguments = ("server", "--slices", "6", "--matrix", "64", "--requests", "1")
    results = benchmark(tmp_path / "metrics.json", *arguments)
    assert set(results["answers"]) == {"/info/", "/datastore/"}
    assert results["synthesis_s"] > 0
    assert isinstance(results["reached"], bool)


@pytest.mark.server
@pytest.mark.slow
def test_the_first_slab_is_compared_with_the_full_volume(tmp_path: Path) -> None:
    arguments = ("slabs", "--slices", "72", "--matrix", "64", "--set", "pixel_mm=8")
    results = benchmark(tmp_path / "metrics.json", *arguments)
    assert results["slices"] == 72
    assert results["slab_by_slab"]["first_slices"] == 2
    assert results["slab_by_slab"]["first_s"] < results["slab_by_slab"]["all_s"]
    assert results["first_of_whole_at_once"] == results["slab_by_slab"]["first_s"] / results["whole_at_once_s"]
