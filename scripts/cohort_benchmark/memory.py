"""Peak memory of the driver and of Ray's workers against the number of studies."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from scripts.cohort_benchmark.commands import cohort_command, start
from scripts.cohort_benchmark.nodes import machines, processors

POLL_INTERVAL_S = 0.25
FEW = 30
MEGABYTE = 10**6


def compare_memory(args: argparse.Namespace, work: Path, studies: Path, model: Path) -> dict[str, Any]:  # noqa: ARG001
    """Return the peak memory of driver and workers with few and with all studies, MB."""
    count = len(list(studies.iterdir()))
    peaks = {limit: _peaks(studies, model, work / str(limit), limit) for limit in (FEW, count)}
    return {"peak_mb": {str(limit): peak for limit, peak in peaks.items()}}


def _peaks(studies: Path, model: Path, out: Path, limit: int) -> dict[str, float]:
    """Return the largest unique memory (USS) of the driver and of each kind of worker in one run, MB."""
    peaks: dict[str, float] = defaultdict(float)
    with machines(processors(2)) as cluster:
        command = cohort_command(studies, model, out, "--engine", "ray", "--limit", str(limit))
        driver = start(command, address=cluster.address)
        while driver.poll() is None:
            for process in psutil.process_iter(["name", "cmdline", "pid"]):
                kind = _kind(process, driver.pid)
                if kind:
                    peaks[kind] = max(peaks[kind], _unique_mb(process))
            time.sleep(POLL_INTERVAL_S)
    return dict(peaks)


def _kind(process: psutil.Process, driver: int) -> str:
    title = " ".join(process.info["cmdline"] or ())
    if process.pid == driver:
        return "driver"
    return next((kind for kind in ("SynthesizerActor", "ReaderWriterActor") if f"ray::{kind}" in title), "")


def _unique_mb(process: psutil.Process) -> float:
    try:
        return round(process.memory_full_info().uss / MEGABYTE, 1)
    except psutil.Error:  # it has ended
        return 0.0
