"""Throughput of the engines and of a plain loop over `main.py synthesize`, all with one thread each."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from scripts.cohort_benchmark.commands import CohortTimes, timed_cohort, timed_loop
from scripts.cohort_benchmark.nodes import machines, processors

MACHINES = (1, 2)


def compare_throughput(args: argparse.Namespace, work: Path, studies: Path, model: Path) -> dict[str, Any]:
    """Return seconds a study of each, round by round, and their ratios."""
    count = len(list(studies.iterdir()))
    loops: list[float] = []
    cohorts: dict[str, list[CohortTimes]] = {}
    for number in range(args.rounds):
        loops.append(timed_loop(studies, model, work / f"loop-{number}"))
        cohorts.setdefault("local", []).append(timed_cohort(studies, model, work / f"local-{number}"))
        for size in MACHINES:
            with machines(processors(size)) as cluster:
                out = work / f"ray-{size}-{number}"
                times = timed_cohort(studies, model, out, "--engine", "ray", address=cluster.address)
                cohorts.setdefault(f"ray, {size} machines", []).append(times)
    per_study = {name: [one.run_s / count for one in times] for name, times in cohorts.items()}
    return {
        "loop_s_per_study": _spread([one / count for one in loops]),
        "whole_program_s_per_study": {
            name: _spread([one.wall_s / count for one in times]) for name, times in cohorts.items()
        },
        "run_s_per_study": {name: _spread(values) for name, values in per_study.items()},
        "overhead_s_per_study": {
            name: _spread([one.run_s / count - one.steps_s for one in times]) for name, times in cohorts.items()
        },
        "steps_s_per_study": {name: _spread([one.steps_s for one in times]) for name, times in cohorts.items()},
        "speedup_of_two_machines": _spread(
            [one / two for one, two in zip(per_study["ray, 1 machines"], per_study["ray, 2 machines"], strict=True)]
        ),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}
