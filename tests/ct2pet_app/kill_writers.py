"""Kill each writer of the server: ``python -m tests.ct2pet_app.kill_writers 200``; see `killed_writers.py`."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.ct2pet_app.killed_writers import WRITERS, Place, faults, killed_at_a_line, start, writing_for_ever
from tests.dicom.write.synthetic_pets import ct_in


def processes() -> ForkServerContext:
    """Return processes that need not import everything again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ct2pet_app.killed_writers"])
    return context


def kill_once(context: ForkServerContext, place: Place, name: str, kill: int, moments: random.Random) -> bool:
    """Kill a writer once; return whether it was killed while it wrote, and not after."""
    begun, number = context.Event(), 10 * kill
    if kill % 2:
        arguments: tuple[Any, ...] = (begun, place, name, number)
        process = context.Process(target=writing_for_ever, args=arguments)
    else:
        arguments = (begun, place, name, number, moments.randrange(2**30))
        process = context.Process(target=killed_at_a_line, args=arguments)
    process.start()
    assert begun.wait(120), f"{name} did not begin"
    if kill % 2:
        time.sleep(moments.uniform(0.0, 0.2))
        process.kill()
    process.join(120)
    return process.exitcode == -signal.SIGKILL


def prepared(root: Path) -> Place:
    """Return a place with a CT that a synthetic series can be made of."""
    place = Place(root)
    place.studies.mkdir()
    ct_in(root / "ct")
    return place


def main(kills: int, seed: int = 12) -> int:
    """Kill so many times and print what came of it; return 1 where something was torn or left."""
    context, moments = processes(), random.Random(seed)
    counted: Counter[str] = Counter()
    found: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = prepared(Path(folder))
        for kill in range(kills):
            name = list(WRITERS)[kill // 2 % len(WRITERS)]
            counted[name] += kill_once(context, place, name, kill, moments)
            start(place)
            found += [f"kill {kill}, {name}: {fault}" for fault in faults(place)]
            with contextlib.suppress(FileNotFoundError):
                for path in (place.root / "scratch").iterdir():
                    path.unlink()
    for name, count in counted.items():
        print(f"{name:>15} {count} kills")
    print(f"{counted.total()} kills, {len(found)} torn or left", *found, sep="\n")
    return 1 if found or counted.total() < kills else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
