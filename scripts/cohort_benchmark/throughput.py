"""Throughput of the engines and of a plain loop over `main.py synthesize`, all with one thread each."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from scripts.cohort_benchmark.commands import CohortTimes, timed_cohort, timed_loop
from scripts.cohort_benchmark.nodes import machines, processors

MACHINES = (1, 2)
LOOP_STUDIES = 6  # each takes the start of a program, so that more would say the same


def compare_throughput(args: argparse.Namespace, work: Path, studies: Path, model: Path) -> dict[str, Any]:
    """Return seconds a study of each, round by round, and their ratios."""
    count = len(list(studies.iterdir()))
    loops: list[float] = []
    cohorts: dict[str, list[CohortTimes]] = {}
    for number in range(args.rounds):
        loops.append(timed_loop(studies, model, work / f"loop-{number}", count=min(count, LOOP_STUDIES)))
        cohorts.setdefault("local", []).append(timed_cohort(studies, model, work / f"local-{number}"))
        for size in MACHINES:
            with machines(processors(size)) as cluster:
                out = work / f"ray-{size}-{number}"
                times = timed_cohort(studies, model, out, "--engine", "ray", address=cluster.address)
                cohorts.setdefault(f"ray, {size} machines", []).append(times)
    steady = {name: [one.steady_s for one in times] for name, times in cohorts.items()}
    return {
        "loop_s_per_study": spread(loops),
        "whole_program_s_per_study": {
            name: spread([one.wall_s / count for one in times]) for name, times in cohorts.items()
        },
        "steady_s_per_study": {name: spread(values) for name, values in steady.items()},
        "overhead_s_per_study": {
            name: spread([one.steady_s - one.steps_s for one in times]) for name, times in cohorts.items()
        },
        "steps_s_per_study": {name: spread([one.steps_s for one in times]) for name, times in cohorts.items()},
        "speedup_of_two_machines": spread(
            [one / two for one, two in zip(steady["ray, 1 machines"], steady["ray, 2 machines"], strict=True)]
        ),
    }


def spread(values: list[float]) -> dict[str, float]:
    """Return median, smallest and largest value."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}
