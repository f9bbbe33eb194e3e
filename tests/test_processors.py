"""Settings of threads before torch is imported, and background work that yields."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import processors
from lib.processors import SPIN_COUNT, configure_threads, processor_quota

ROOT = Path(__file__).resolve().parents[1]


def cgroup(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("own", [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_the_users_own_setting_is_kept(own: dict[str, str], tmp_path: Path) -> None:
    environment = dict(own)
    configure_threads(environment, cgroup=tmp_path)
    assert environment == own


def test_idle_threads_sleep_soon(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    configure_threads(environment, cgroup=tmp_path)
    assert environment == {"GOMP_SPINCOUNT": str(SPIN_COUNT)}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu_dot_max": "150000 100000\n"}, 2),
        ({"cpu_dot_max": "max 100000\n"}, None),
        ({"cpu__cpu_dot_cfs_quota_us": "50000\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, 1),
        ({"cpu__cpu_dot_cfs_quota_us": "-1\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, None),
        ({"cpu_dot_max": "nonsense\n"}, None),
        ({}, None),
    ],
)
def test_the_share_of_a_container(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    assert processor_quota(cgroup(tmp_path, **files)) == expected


def test_threads_follow_the_share_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    folder = cgroup(tmp_path, cpu_dot_max="400000 100000")
    environment = {"OMP_NUM_THREADS": "3"}
    configure_threads(environment, cgroup=folder)
    assert environment["OMP_NUM_THREADS"] == "3" and environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "4"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    fewer: dict[str, str] = {}
    configure_threads(fewer, cgroup=folder)
    assert "OMP_NUM_THREADS" not in fewer


def test_every_command_sets_it_before_torch_is_imported() -> None:
    program = "import lib, os, sys; print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name not in processors.SPIN_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.split() == ["False", str(SPIN_COUNT)]


def test_background_work_yields() -> None:
    program = "import os; from lib.processors import yield_processors; yield_processors(); print(os.nice(0))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, start_new_session=True
    )
    assert int(done.stdout) == min(19, os.nice(0) + processors.BACKGROUND_NICENESS)
