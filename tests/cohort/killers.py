"""Engines that kill their own driver or one of its workers, and the process of a driver that dies."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from lib.cohort.engine import Engine, Progressing, Work
from lib.cohort.local_engine import run_locally
from lib.cohort.outcome import StudyResult
from lib.cohort.plan import plan_folder
from lib.cohort.ray_engine import run_on_ray
from lib.cohort.run import run_cohort
from lib.cohort.settings import StudySettings

ENGINES: dict[str, Engine] = {"local": run_locally, "ray": partial(run_on_ray, address="ray")}


def kill_driver_after(work: Work, *, engine: Engine, outcomes: int) -> Progressing:
    """Yield the outcomes of an engine, and kill this process when so many were recorded."""
    recorded = 0
    for outcome, workers in engine(work):
        if recorded == outcomes:
            os.kill(os.getpid(), signal.SIGKILL)
        recorded += outcome is not None
        yield outcome, workers


def kill_worker_once(work: Work, *, engine: Engine, killed: list[int]) -> Progressing:
    """Yield the outcomes of an engine on this machine, and kill the synthesizer of the first."""
    for outcome, workers in engine(work):
        if outcome is not None and isinstance(outcome.result, StudyResult) and not killed:
            killed.append(int(outcome.worker.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)
        yield outcome, workers


def main() -> None:
    """Run a cohort until it kills itself: ENGINE STUDIES MODEL OUT."""
    name, *paths = sys.argv[1:]
    studies, model, out = map(Path, paths)
    engine = partial(kill_driver_after, engine=ENGINES[name], outcomes=2)
    run_cohort(plan_folder(studies, {}), [model], StudySettings(out), engine, engine_name=name, workers=1)


if __name__ == "__main__":
    main()
