"""The commands that are measured, as processes, and what their records say."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lib.cohort.manifest import Manifest
from scripts.benchmarks.programs import ROOT, run_quietly, synthesize_command

ONE_THREAD = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}


@dataclass(frozen=True)
class CohortTimes:
    """Durations of one `cohort run`.

    Attributes:
        wall_s: From the start of the program to its end.
        run_s: Without planning and loading, from the record.
        steps_s: Median of all steps of a study together.
        steady_s: From the end of the first study to that of the last, a study: without the start of the workers.
    """

    wall_s: float
    run_s: float
    steps_s: float
    steady_s: float


def cohort_command(studies: Path, model: Path, out: Path, *options: str) -> list[str]:
    """Return the command line of `cohort run`."""
    command = [sys.executable, ROOT / "main.py", "cohort", "run", studies, "--model", model, "--out", out]
    return [*map(str, command), *options, "--device", "cpu", "--json"]


def start(command: list[str], *, address: str = "") -> subprocess.Popen[str]:
    """Start a command with one thread, for a Ray cluster if there is an address."""
    environment = {**os.environ, **ONE_THREAD, **({"RAY_ADDRESS": address} if address else {})}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON of a command that succeeds."""
    output, _ = process.communicate()
    try:
        return dict(json.loads(output))
    except ValueError as error:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}, and printed {output!r:.500}") from error


def timed_cohort(studies: Path, model: Path, out: Path, *options: str, address: str = "") -> CohortTimes:
    """Return the durations of a `cohort run`."""
    began = time.perf_counter()
    result = finish(start(cohort_command(studies, model, out, *options), address=address))
    wall_s = time.perf_counter() - began
    with Manifest.open(out) as record:
        found = list(record.studies())
    steps = statistics.median(sum(study["seconds"].values()) for study in found)
    ends = sorted(datetime.fromisoformat(study["finished"]).timestamp() for study in found)
    steady_s = (ends[-1] - ends[0]) / max(len(ends) - 1, 1)
    return CohortTimes(wall_s, float(result["seconds"]), steps, steady_s)


def timed_loop(studies: Path, model: Path, out: Path, *, count: int) -> float:
    """Return the duration of a plain loop over `main.py synthesize` for so many studies, s a study."""
    os.environ.update(ONE_THREAD)
    began = time.perf_counter()
    for study in sorted(studies.iterdir())[:count]:
        run_quietly(synthesize_command(study / "CT", model, out / study.name, device="cpu"))
    return (time.perf_counter() - began) / count


def files_of(out: Path) -> Mapping[str, bytes]:
    """Return the files of all series of a cohort, by their path in its folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted((out / "series").rglob("*.dcm"))}
