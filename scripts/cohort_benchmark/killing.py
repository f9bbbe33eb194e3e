"""A cohort whose driver is killed once and a machine twice, compared with an undisturbed run of the engine `local`."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import Any

from lib.cohort.manifest import DONE, Manifest
from lib.cohort.summary import summarize
from lib.errors import InputError
from scripts.cohort_benchmark.commands import cohort_command, files_of, finish, start
from scripts.cohort_benchmark.nodes import machines, processors

KILL_AT = (0.2, 0.45, 0.7)  # share of the studies that are done: a machine, the driver, a machine
POLL_INTERVAL_S = 0.1


def survive_kills(args: argparse.Namespace, work: Path, studies: Path, model: Path) -> dict[str, Any]:  # noqa: ARG001
    """Return what the record says in the end, and whether the files are those of `local`."""
    count = len(list(studies.iterdir()))
    expected_out, out = work / "local", work / "ray"
    finish(start(cohort_command(studies, model, expected_out)))
    events: list[str] = []
    with machines(processors(2)) as cluster:

        def kill_machine() -> None:
            """Kill a machine, and add another one."""
            cluster.kill(0)
            cluster.add(processors(1)[0])

        driver = start(cohort_command(studies, model, out, "--engine", "ray"), address=cluster.address)
        _wait_for(out, KILL_AT[0] * count, events, "machine killed, another one added")
        kill_machine()
        _wait_for(out, KILL_AT[1] * count, events, "driver killed")
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        driver = start(cohort_command(studies, model, out, "--engine", "ray"), address=cluster.address)
        _wait_for(out, KILL_AT[2] * count, events, "machine killed, another one added")
        kill_machine()
        finish(driver)
    expected, found = files_of(expected_out), files_of(out)
    summary = summarize(out)
    return {
        "events": events,
        "series": len(list((out / "series").iterdir())),
        "instances": len(found),
        "files_equal_those_of_local": found == expected,
        "done": summary.counts[DONE],
        "attempts_repeated": summary.retried,
        "attempts_lost": summary.lost,
    }


def _wait_for(out: Path, count: float, events: list[str], event: str) -> None:
    """Return when so many studies are done, and note the event that follows."""
    while (done := _done(out)) < count:
        time.sleep(POLL_INTERVAL_S)
    events.append(f"{event} after {done} studies")


def _done(out: Path) -> int:
    try:
        with Manifest.open(out) as record:
            return record.counts()[DONE]
    except InputError:  # not written yet
        return 0
