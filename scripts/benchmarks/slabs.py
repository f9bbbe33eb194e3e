"""Measure the time to the first slab of a PET with Slicer's client, compared with one request for the full volume."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from lib.errors import InputError
from scripts.benchmarks.live import MODEL, ROOT, Setup, prepare_setup

sys.path.insert(0, str(ROOT / "slicer" / "CT2PET"))  # as in Slicer

from CT2PETLib.client.client import Client
from CT2PETLib.jobs.events import ReceivedSlab
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

TARGET = 0.1  # maximum time to the first slab, as a fraction of the time for the full volume
POLL_INTERVAL_S = 0.02


def measure_slabs(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the times to the first and the last slab, for a CT that the server has not read yet and again.

    The full volume is requested from another server that has not read the CT either.
    """
    with prepare_setup(args) as setup:
        with setup.server() as url:
            began = time.perf_counter()
            Client(url, timeout_s=3600).slab(MODEL, setup.ct_uid, 0, setup.slices)
            full_s = time.perf_counter() - began
        with setup.server() as url:
            cold, warm = _synthesize(url, setup), _synthesize(url, setup)
    ratio = cold["first_s"] / full_s
    return {
        "slices": setup.slices,
        "whole_at_once_s": full_s,
        "slab_by_slab": cold,
        "slab_by_slab_again": warm,
        "first_of_whole_at_once": ratio,
        "first_of_slab_by_slab": cold["first_s"] / cold["all_s"],
        "slab_by_slab_of_whole_at_once": cold["all_s"] / full_s,
        "target": TARGET,
        "reached": ratio <= TARGET,
    }


def _synthesize(url: str, setup: Setup) -> dict[str, Any]:
    """Synthesise all slices from the middle outward, as the panel does; return durations in seconds."""
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
    return {
        "first_s": first_s,
        "first_slices": first.stop - first.start,
        "all_s": received[-1][0],
        "slabs": len(received),
    }
