"""scripts/benchmark: that it runs, and which figures it gives; never how good they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
SMALL = ("--set", "base_channels=4", "--set", "depth=1")


def benchmark(out: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, BENCHMARK, *words, "--device", "cpu", *SMALL, "--out", out]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return dict(json.loads(out.read_text()))


def test_the_network_is_measured(tmp_path: Path) -> None:
    words = ("synthesis", "--pixels", "32", "--batch", "1,2", "--precision", "float32", "--repeats", "1")
    found = benchmark(tmp_path / "figures.json", *words)
    assert {"cpus", "torch_threads", "load_1_min_before"} <= set(found["machine"])
    assert [run["batch"] for run in found["runs"]] == [1, 2]
    assert all(run["s_per_slice"] > 0 and run["tflop_per_s"] > 0 for run in found["runs"])


@pytest.mark.server
@pytest.mark.slow
def test_the_server_is_measured(tmp_path: Path) -> None:
    words = ("server", "--slices", "6", "--matrix", "64", "--requests", "1")
    found = benchmark(tmp_path / "figures.json", *words)
    assert set(found["answers"]) == {"/info/", "/datastore/"}
    assert found["synthesis_s"] > 0
    assert isinstance(found["reached"], bool)


@pytest.mark.server
@pytest.mark.slow
def test_the_first_slab_is_measured_against_the_whole(tmp_path: Path) -> None:
    words = ("slabs", "--slices", "72", "--matrix", "64", "--set", "pixel_mm=8")
    found = benchmark(tmp_path / "figures.json", *words)
    assert found["slices"] == 72
    assert found["slab_by_slab"]["first_slices"] == 2
    assert found["slab_by_slab"]["first_s"] < found["slab_by_slab"]["all_s"]
    assert found["first_of_whole_at_once"] == found["slab_by_slab"]["first_s"] / found["whole_at_once_s"]
