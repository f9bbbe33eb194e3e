"""The real server under 1, 4 and 16 clients."""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from scripts.benchmarks.live import MODEL, Setup, get, prepare_setup
from scripts.benchmarks.measure import Figure, Ratio, Result
from scripts.benchmarks.programs import ROOT

sys.path.insert(0, str(ROOT / "slicer" / "CT2PET"))  # as in Slicer

from CT2PETLib.client.client import Client

CLIENTS = (1, 4, 16)
SLAB_SLICES = 16  # of a request
ANSWER_S = 0.5  # of /info/ during syntheses, at most
POLL_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Load:
    """What clients measured at the same time.

    Attributes:
        requests_s: Duration of each request.
        slices_per_s: Of all clients together.
        slowest_answer_s: The slowest answer of /info/ meanwhile.
    """

    requests_s: tuple[float, ...]
    slices_per_s: float
    slowest_answer_s: float


def measure(args: argparse.Namespace) -> Result:
    """Measure requests of 16 slices by several clients at once, in turn with one client."""
    with prepare_setup(args) as setup, setup.server() as url:
        request_slab(setup, url, 0)  # reads the CT and loads the model
        loads: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
        for _, clients in itertools.product(range(args.repeats), CLIENTS):
            loads[clients].append(_load(setup, url, clients=clients, requests=args.requests))
    return _result(loads, run={"slices": setup.slices, "slices_per_request": SLAB_SLICES, "requests": args.requests})


def _result(loads: dict[int, list[Load]], *, run: dict[str, int]) -> Result:
    figures, ratios = [], []
    speeds = {clients: tuple(load.slices_per_s for load in of_clients) for clients, of_clients in loads.items()}
    for clients, of_clients in loads.items():
        label = f"{clients} clients" if clients > 1 else "one client"
        durations = tuple(s for load in of_clients for s in load.requests_s)
        answers = tuple(load.slowest_answer_s for load in of_clients)
        figures += [
            Figure("request", "s", durations, of=label),
            Figure("all requests", "slices/s", speeds[clients], of=label),
            Figure("slowest answer of /info/ meanwhile", "s", answers, of=label),
        ]
        ratios.append(
            Ratio(f"{label}: slowest /info/ / {ANSWER_S:g} s", tuple(s / ANSWER_S for s in answers), at_most=1)
        )
        if clients > 1:
            gain = tuple(several / one for several, one in zip(speeds[clients], speeds[1], strict=True))
            ratios.append(Ratio(f"slices per second: {label} / one", gain))
    return Result(run, figures, ratios)


def _load(setup: Setup, url: str, *, clients: int, requests: int) -> Load:
    """Return what `clients` measure that send `requests` each at the same time."""
    with _polled(url) as answers_s, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        numbers = range(clients * requests)
        durations = tuple(pool.map(lambda number: request_slab(setup, url, number), numbers))
        elapsed_s = time.perf_counter() - began
    return Load(durations, len(durations) * min(SLAB_SLICES, setup.slices) / elapsed_s, max(answers_s))


@contextmanager
def _polled(url: str) -> Iterator[list[float]]:
    """Yield a list to which the durations of /info/ are added until the end of the block."""
    answers_s, is_over = [get(f"{url}/info/")], threading.Event()

    def poll() -> None:
        while not is_over.wait(POLL_INTERVAL_S):
            answers_s.append(get(f"{url}/info/"))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield answers_s
    finally:
        is_over.set()
        thread.join()


def request_slab(setup: Setup, url: str, number: int) -> float:
    """Request a slab, another one for each number, and return the duration, s."""
    count = min(SLAB_SLICES, setup.slices)
    start = number * count % (setup.slices - count + 1)
    began = time.perf_counter()
    Client(url).slab(MODEL, setup.ct_uid, start, start + count)
    return time.perf_counter() - began
