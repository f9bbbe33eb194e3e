"""Does the server answer at once while it draws?"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from typing import Any

from scripts.benchmarks.live import MODEL, clinic, get, post

TARGET_S = 0.5  # within which /info/ answers while a synthesis runs
ASKED = ("/info/", "/datastore/")  # what clients ask again and again


def measure_server(asked: argparse.Namespace) -> dict[str, Any]:
    """Return how long the real server takes to answer while it draws all slices of a CT."""
    with clinic(asked) as place, place.server() as url:
        return {"slices": place.slices, "matrix": asked.matrix, **_asked_meanwhile(url, place.ct_uid, asked.requests)}


def _asked_meanwhile(url: str, ct: str, count: int) -> dict[str, Any]:
    """Ask `count` times or more, for as long as a synthesis takes."""
    taken: dict[str, list[float]] = {path: [] for path in ASKED}
    drawn: list[float] = []
    synthesis = threading.Thread(target=lambda: drawn.append(post(f"{url}/infer/{MODEL}?image={ct}&output=json")))
    synthesis.start()
    while synthesis.is_alive():
        for path in ASKED:
            taken[path].append(get(f"{url}{path}"))
        time.sleep(0.05)
    if len(taken[ASKED[0]]) < count:
        print(f"benchmark: the synthesis was over after {len(taken[ASKED[0]])} requests", file=sys.stderr)
    told = {
        path: {"requests": len(s), "slowest_s": max(s), "median_s": statistics.median(s)} for path, s in taken.items()
    }
    slowest = max(max(seconds) for seconds in taken.values())
    return {"synthesis_s": drawn[0], "answers": told, "target_s": TARGET_S, "reached": slowest < TARGET_S}
