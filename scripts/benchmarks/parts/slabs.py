"""The first slab of a PET with Slicer's client, of a CT that was not read before and again; the whole volume."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass

from lib.errors import InputError
from scripts.benchmarks.live import MODEL, TIMEOUT_S, Setup, prepare_setup
from scripts.benchmarks.measure import Figure, Ratio, Result, divide
from scripts.benchmarks.programs import ROOT

sys.path.insert(0, str(ROOT / "slicer" / "CT2PET"))  # as in Slicer

from CT2PETLib.client.client import Client
from CT2PETLib.jobs.events import ReceivedSlab
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

FIRST_OF_WHOLE = 0.1  # at most
FIRST_S, AGAIN_S = 0.7, 0.3  # at most, for 16 slices of 300 x 512 x 512 on two cores
POLL_INTERVAL_S = 0.02


@dataclass(frozen=True)
class Slabs:
    """The times from the request to the first and the last slab, s."""

    first_s: float
    first_slices: int
    all_s: float
    count: int


def measure(args: argparse.Namespace) -> Result:
    """Request a CT in one piece and in slabs, each from a server that has not read it, and in slabs again."""
    whole_s, cold, warm = [], [], []
    with prepare_setup(args) as setup:
        for _ in range(args.repeats):
            with setup.server() as url:
                began = time.perf_counter()
                Client(url, timeout_s=TIMEOUT_S).slab(MODEL, setup.ct_uid, 0, setup.slices)
                whole_s.append(time.perf_counter() - began)
            with setup.server() as url:
                cold.append(_synthesize(url, setup))
                warm.append(_synthesize(url, setup))
    first_s, again_s = tuple(slabs.first_s for slabs in cold), tuple(slabs.first_s for slabs in warm)
    figures = [
        Figure("first slab", "s", first_s, of="CT not read before"),
        Figure("first slab", "s", again_s, of="again"),
        Figure("all slabs", "s", tuple(slabs.all_s for slabs in cold), of="CT not read before"),
        Figure("all slabs", "s", tuple(slabs.all_s for slabs in warm), of="again"),
        Figure("whole volume", "s", tuple(whole_s), of="one request"),
    ]
    ratios = [
        Ratio("first slab / whole volume in one request", divide(first_s, whole_s), at_most=FIRST_OF_WHOLE),
        Ratio("all slabs / whole volume in one request", divide(figures[2].values, whole_s)),
        Ratio(f"first slab / {FIRST_S:g} s", tuple(s / FIRST_S for s in first_s), at_most=1),
        Ratio(f"first slab again / {AGAIN_S:g} s", tuple(s / AGAIN_S for s in again_s), at_most=1),
    ]
    run = {"slices": setup.slices, "first_slab_slices": cold[0].first_slices, "slabs": cold[0].count}
    return Result(run, figures, ratios)


def _synthesize(url: str, setup: Setup) -> Slabs:
    """Synthesise all slices from the middle outward, as the panel does."""
    full = (0, setup.slices)
    job = SynthesisJob(Client(url), model=MODEL, image_id=setup.ct_uid, requested=full, centre=setup.slices // 2)
    received: list[tuple[float, ReceivedSlab]] = []
    began = time.perf_counter()
    job.start()
    while not job.state.is_over:
        elapsed_s = time.perf_counter() - began
        received += [(elapsed_s, event) for event in job.drain() if isinstance(event, ReceivedSlab)]
        time.sleep(POLL_INTERVAL_S)
    if job.state is not State.DONE:
        raise InputError(f"the server did not synthesise all slices: {job.message}")
    first_s, first = received[0]
    return Slabs(first_s, first.stop - first.start, received[-1][0], len(received))
