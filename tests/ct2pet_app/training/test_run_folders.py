"""The newest training run is found even if the clock was changed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ct2pet_app.training.run_folders import make_run, newest_run, newest_stats, run_order, runs_in, stats_of_run


def set_clock(monkeypatch: pytest.MonkeyPatch, stamp: str) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: stamp)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "unet" / "runs"


def test_a_run_made_later_is_newer_under_a_clock_that_goes_back(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for stamp in ("20990101-000000", "20260101-000000", "19700101-000000", "20260101-000000"):
        set_clock(monkeypatch, stamp)
        made.append(make_run(tmp_path, runs))
        assert newest_run(runs) == made[-1]
    assert runs_in(runs) == made
    assert made[0].name == "0001-20990101-000000"


def test_a_run_of_a_version_before_with_a_wrong_clock_is_older(runs: Path, tmp_path: Path) -> None:
    for name in ("20991231-235959", "20260101-000000", "20260101-000000-1", "20260101-000000-10", "20260101-000000-9"):
        (runs / name).mkdir(parents=True)
    (runs / "20991231-235959" / "verdict.json").write_text(json.dumps({"verdict": "of another"}))
    assert newest_stats(runs)["verdict"] == "of another"
    run = make_run(tmp_path, runs)
    assert newest_stats(runs) == {"run": run.name}
    assert stats_of_run(runs, "20991231-235959")["verdict"] == "of another"
    assert stats_of_run(runs, "../../elsewhere") == stats_of_run(runs, "None") == {}


def test_runs_of_one_second_of_before_keep_their_order() -> None:
    names = ["backup", "20260101-000000", "20260101-000000-1", "20260101-000000-9", "20260101-000000-10",
             "20260101-000001", "0001-20200101-000000", "0002-20200101-000000", "10000-20190101-000000"]  # fmt: skip
    assert sorted(sorted(names), key=run_order) == names


def test_the_newest_of_all_models_is_the_one_made_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "20990101-000000")
    first = make_run(tmp_path, tmp_path / "unet" / "runs")
    set_clock(monkeypatch, "20260101-000000")
    second = make_run(tmp_path, tmp_path / "cascade3" / "runs")
    assert run_order(second.name) > run_order(first.name)


def test_two_servers_never_make_the_same_run(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, "20260101-000000")
    assert len({make_run(tmp_path, runs) for _ in range(20)}) == 20
