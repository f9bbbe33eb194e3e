"""Measure the latency of the server during a synthesis."""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from typing import Any

from scripts.benchmarks.live import MODEL, get, post, prepare_setup

TARGET_S = 0.5  # maximum latency of /info/ during a synthesis
POLLED_PATHS = ("/info/", "/datastore/")  # polled by clients


def measure_server(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the latency of the real server while it synthesises all slices of a CT."""
    with prepare_setup(args) as setup, setup.server() as url:
        measured = _measure_during_synthesis(url, setup.ct_uid, args.requests)
        return {"slices": setup.slices, "matrix": args.matrix, **measured}


def _measure_during_synthesis(url: str, ct: str, count: int) -> dict[str, Any]:
    """Poll the server during a synthesis; warn if there are fewer than `count` requests."""
    latencies_s: dict[str, list[float]] = {path: [] for path in POLLED_PATHS}
    durations_s: list[float] = []
    synthesis = threading.Thread(target=lambda: durations_s.append(post(f"{url}/infer/{MODEL}?image={ct}&output=json")))
    synthesis.start()
    while synthesis.is_alive():
        for path in POLLED_PATHS:
            latencies_s[path].append(get(f"{url}{path}"))
        time.sleep(0.05)
    if len(latencies_s[POLLED_PATHS[0]]) < count:
        print(f"benchmark: the synthesis ended after {len(latencies_s[POLLED_PATHS[0]])} requests", file=sys.stderr)
    summary = {
        path: {"requests": len(seconds), "slowest_s": max(seconds), "median_s": statistics.median(seconds)}
        for path, seconds in latencies_s.items()
    }
    slowest = max(max(seconds) for seconds in latencies_s.values())
    return {"synthesis_s": durations_s[0], "answers": summary, "target_s": TARGET_S, "reached": slowest < TARGET_S}
