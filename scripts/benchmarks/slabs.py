"""How soon is the first part of the PET on screen? Slicer's own client, against the whole volume asked for at once."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from lib.errors import InputError
from scripts.benchmarks.live import MODEL, ROOT, Clinic, clinic

sys.path.insert(0, str(ROOT / "slicer" / "CT2PET"))  # where Slicer finds it, too

from CT2PETLib.client.client import Client
from CT2PETLib.jobs.events import ReceivedSlab
from CT2PETLib.jobs.job import State
from CT2PETLib.jobs.jobs import SynthesisJob

TARGET = 0.1  # of the whole volume's time, until the first slab is there
LOOKS_EVERY_S = 0.02


def measure_slabs(asked: argparse.Namespace) -> dict[str, Any]:
    """Return when the first slab came and when the last, of a CT that the server has not read before, and has read.

    The whole volume is asked of another server that has not read it either.
    """
    with clinic(asked) as place:
        with place.server() as url:
            began = time.perf_counter()
            Client(url, timeout_s=3600).slab(MODEL, place.ct_uid, 0, place.slices)
            whole_s = time.perf_counter() - began
        with place.server() as url:
            cold, warm = _drawn(url, place), _drawn(url, place)
    ratio = cold["first_s"] / whole_s
    return {
        "slices": place.slices,
        "whole_at_once_s": whole_s,
        "slab_by_slab": cold,
        "slab_by_slab_again": warm,
        "first_of_whole_at_once": ratio,
        "first_of_slab_by_slab": cold["first_s"] / cold["all_s"],
        "slab_by_slab_of_whole_at_once": cold["all_s"] / whole_s,
        "target": TARGET,
        "reached": ratio <= TARGET,
    }


def _drawn(url: str, place: Clinic) -> dict[str, Any]:
    """Draw all slices from the middle outward, as the window does; return seconds since the button was pressed."""
    whole = (0, place.slices)
    job = SynthesisJob(Client(url), model=MODEL, image_id=place.ct_uid, requested=whole, centre=place.slices // 2)
    came: list[tuple[float, ReceivedSlab]] = []
    began = time.perf_counter()
    job.start()
    while not job.state.is_over:
        came += [(time.perf_counter() - began, told) for told in job.drain() if isinstance(told, ReceivedSlab)]
        time.sleep(LOOKS_EVERY_S)
    if job.state is not State.DONE:
        raise InputError(f"the server did not draw all slices: {job.message}")
    first_s, first = came[0]
    return {"first_s": first_s, "first_slices": first.stop - first.start, "all_s": came[-1][0], "slabs": len(came)}
