"""Read mutants by the thousand in child processes; a child that dies or hangs affects one mutant, which is reported."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.fuzzing.oracle import EQUAL, FREE, REFUSED, SILENT, WARNED
from scripts.fuzzing.worker import BROKEN, INVALID

ROOT = Path(__file__).resolve().parents[2]
BATCH = 500  # mutants per child process
MUTANT_TIMEOUT_S = 20.0  # usually below 0.1 s
KILLED, HANGS = "killed", "hangs"
FINE = (REFUSED, EQUAL, WARNED, FREE)
FINDINGS = (SILENT, BROKEN, INVALID, KILLED, HANGS)


@dataclass
class Campaign:
    """The results of the mutants of a seed."""

    seed: int
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The results that are findings."""
        return [line for line in self.lines if line["outcome"] in FINDINGS]

    def table(self) -> dict[str, Counter[str]]:
        """Return the number of mutants by kind and outcome."""
        kinds: dict[str, Counter[str]] = {}
        for line in self.lines:
            kinds.setdefault(line["kind"], Counter())[line["outcome"]] += 1
        return dict(sorted(kinds.items()))


def run_campaign(
    work: Path, *, seed: int, first: int, count: int, keep: Path | None, progress: Callable[[int], None]
) -> Campaign:
    """Read the mutants `first` to `first + count - 1`; stop early on Ctrl-C.

    Args:
        work: Folder with the list of subjects, for temporary files.
        seed: Seed of the mutants.
        first: Number of the first mutant.
        count: Number of mutants.
        keep: Folder in which to keep the mutants' files; None to keep none.
        progress: Called with the number of mutants done.
    """
    campaign, end = Campaign(seed), first + count
    with contextlib.suppress(KeyboardInterrupt):
        while first < end:
            first = _batch(campaign, work, first, min(BATCH, end - first), keep, progress)
    return campaign


def _batch(
    campaign: Campaign, work: Path, first: int, count: int, keep: Path | None, progress: Callable[[int], None]
) -> int:
    """Read mutants in one child process; return the number of the next mutant."""
    command = [sys.executable, "-W", "ignore", "-m", "scripts.fuzzing.worker", str(work), str(campaign.seed)]
    command += [str(first), str(count), *([] if keep is None else [str(keep)])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    with (
        (work / "child.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment) as child,
    ):
        started, done, outcome = first, first, KILLED
        try:
            for text in _lines(child, MUTANT_TIMEOUT_S):
                line = json.loads(text)
                if "started" in line:
                    started = line["started"]
                    continue
                campaign.lines.append(line)
                done = line["number"] + 1
                progress(len(campaign.lines))
        except TimeoutError:
            outcome = HANGS
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1.0 if outcome == KILLED else 0.0)
            child.kill()
            status = child.wait()
    if done < first + count:
        tail = (work / "child.log").read_bytes()[-300:].decode("utf-8", errors="replace")
        detail = f"exit status {status}: {tail}"
        campaign.lines.append({"number": started, "kind": "any", "subject": "", "what": "", "outcome": outcome,
                               "detail": detail, "seconds": MUTANT_TIMEOUT_S, "peak_mib": 0})  # fmt: skip
        return started + 1
    return done


def _lines(child: subprocess.Popen[bytes], seconds: float) -> Any:
    """Yield the child's lines until it ends.

    Raises:
        TimeoutError: No line within `seconds`.
    """
    assert child.stdout is not None
    pending = b""
    while True:
        ready, _, _ = select.select([child.stdout], [], [], seconds)
        if not ready:
            raise TimeoutError
        received = os.read(child.stdout.fileno(), 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        yield from lines
