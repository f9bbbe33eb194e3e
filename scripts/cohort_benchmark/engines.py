"""The engines Ray and Dask on the same studies, in turns: time to the first study, and from the first to the last."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lib.cohort.engine import Engine, Progressing, Work
from lib.cohort.plan import plan_folder
from lib.cohort.ray_engine import run_on_ray
from lib.cohort.run import run_cohort
from lib.cohort.settings import StudySettings
from scripts.cohort_benchmark.dask_engine import run_on_dask
from scripts.cohort_benchmark.throughput import spread

WORKERS = 2
ENGINES: dict[str, Callable[[Work], Progressing]] = {"ray": partial(run_on_ray, address="ray"), "dask": run_on_dask}


def compare_engines(args: argparse.Namespace, work: Path, studies: Path, model: Path) -> dict[str, Any]:
    """Return, for each engine, seconds to the first study, and seconds a study after it."""
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in ENGINES}
    for number in range(args.rounds):
        for name, engine in ENGINES.items():
            began = time.perf_counter()
            ended_at: list[float] = []
            settings = StudySettings(work / f"{name}-{number}", device="cpu")
            run_cohort(
                plan_folder(studies, {}), [model], settings, _timed(engine, ended_at), engine_name=name, workers=WORKERS
            )
            values = {
                "to_first_s": ended_at[0] - began,
                "steady_s_per_study": (ended_at[-1] - ended_at[0]) / max(1, len(ended_at) - 1),
                "all_s": ended_at[-1] - began,
            }
            for key, value in values.items():
                measured[name].setdefault(key, []).append(value)
    return {name: {key: spread(values) for key, values in of.items()} for name, of in measured.items()}


def _timed(engine: Callable[[Work], Progressing], ended_at: list[float]) -> Engine:
    def run(work: Work) -> Progressing:
        """Yield what the engine yields, and note when each study ended."""
        for outcome, workers in engine(work):
            if outcome is not None:
                ended_at.append(time.perf_counter())
            yield outcome, workers

    return run
