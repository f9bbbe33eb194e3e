"""Killed drivers and workers cost the studies in flight, and the same command ends with the same files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from lib.cohort.engine import Progressing, Work
from lib.cohort.local_engine import MAX_IN_FLIGHT, run_locally
from lib.cohort.manifest import Manifest
from lib.cohort.plan import plan_folder
from lib.cohort.ray_engine import CASES_EACH
from lib.cohort.run import CohortRun, run_cohort
from lib.cohort.settings import StudySettings
from tests.cli.runner import run_json
from tests.cohort.conftest import STUDIES
from tests.cohort.files import files_of, leftovers
from tests.cohort.killers import ENGINES, kill_worker_once
from tests.conftest import REPOSITORY


def killed_driver(engine: str, studies: Path, model: Path, out: Path) -> dict[str, int]:
    """Run a cohort in a process that kills itself; return the states that it leaves."""
    command = [sys.executable, "-m", "tests.cohort.killers", engine, *map(str, (studies, model, out))]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    with Manifest.open(out) as manifest:
        return manifest.counts()


def test_a_killed_driver_costs_at_most_the_studies_in_flight(
    capsys: pytest.CaptureFixture[str], studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    left = killed_driver("local", studies, model, tmp_path)
    assert left["done"] == 2 and 1 <= left["running"] <= MAX_IN_FLIGHT
    rest = run_json(capsys, "cohort", "run", studies, "--model", model, "--out", tmp_path)
    assert (rest["before"], rest["done"], rest["counts"]["done"]) == (2, STUDIES - 2, STUDIES)
    assert files_of(tmp_path) == files_of(local_cohort) and not leftovers(tmp_path)
    status = run_json(capsys, "cohort", "status", tmp_path)
    assert (status["lost"], status["retried"]) == (left["running"], left["running"])


@pytest.mark.slow
def test_ray_with_killed_driver_and_worker_gives_the_files_of_local(
    ray_cluster: None, studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    left = killed_driver("ray", studies, model, tmp_path)
    assert left["done"] == 2 and left["running"] <= CASES_EACH
    killed: list[int] = []
    engine = partial(kill_worker_once, engine=ENGINES["ray"], killed=killed)
    plan, settings = plan_folder(studies, {}), StudySettings(tmp_path)
    run = run_cohort(plan, [model], settings, engine, engine_name="ray", workers=1)
    assert (run.before, run.counts["done"], len(killed)) == (2, STUDIES, 1)
    assert files_of(tmp_path) == files_of(local_cohort) and not leftovers(tmp_path)
    with sqlite3.connect(tmp_path / "cohort.sqlite") as record:
        attempts, losses = record.execute("SELECT sum(attempts), sum(losses) FROM study").fetchone()
    assert losses == left["running"] + run.lost and attempts == STUDIES + losses


def stopped_after_one(work: Work) -> Progressing:
    """Yield the outcomes of the engine `local`; the first comes with the signal of Ctrl-C."""
    for number, one in enumerate(run_locally(work)):
        if not number:
            os.kill(os.getpid(), signal.SIGINT)
        yield one


def stop_then_finish(studies: Path, model: Path, out: Path) -> tuple[CohortRun, CohortRun]:
    plan = partial(plan_folder, studies, {})
    stopped = run_cohort(plan(), [model], StudySettings(out), stopped_after_one, engine_name="local")
    return stopped, run_cohort(plan(), [model], StudySettings(out), run_locally, engine_name="local")


def test_ctrl_c_finishes_what_was_begun_and_the_rest_is_pending(
    studies: Path, model: Path, local_cohort: Path, tmp_path: Path
) -> None:
    stopped, rest = stop_then_finish(studies, model, tmp_path)
    assert stopped.is_stopped and stopped.counts["running"] == 0 and 1 <= stopped.done <= MAX_IN_FLIGHT + 1
    assert stopped.counts["pending"] == STUDIES - stopped.done
    assert (rest.before, rest.counts["done"], rest.lost) == (stopped.done, STUDIES, 0)
    assert files_of(tmp_path) == files_of(local_cohort)


def abandoned(work: Work) -> Progressing:
    """Take a study and end as the second Ctrl-C does."""
    assert work.take() is not None
    yield None, 1
    raise KeyboardInterrupt


def test_an_abandoned_study_is_pending_and_does_not_count_as_an_attempt(
    studies: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_cohort(plan_folder(studies, {}), [model], StudySettings(tmp_path), abandoned, engine_name="local")
    with Manifest.open(tmp_path) as manifest:
        assert manifest.counts()["pending"] == STUDIES
        assert {study["attempts"] for study in manifest.studies()} == {0}
