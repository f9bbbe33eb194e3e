"""Suite `clients`: many clients who want what they may have, all at once."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from scripts.attacking.cases import Notify
from scripts.attacking.result import Result, find_violation
from scripts.attacking.target import Target, target

CLIENTS, SECONDS = 16, 60.0
NETWORK = ("base_channels=2", "depth=1", "context_slices=1", "pixel_mm=6.4")
MODEL = "unet"
BUSY = 503


def clients_suite(
    folder: Path, *, said: Notify, clients: int = CLIENTS, seconds: float = SECONDS, latency: bool = True
) -> Result:
    """Return how the server answers `clients` clients who mix its requests for so long."""
    result = Result("clients")
    with target(folder, network=NETWORK) as to:
        label = to.request("POST", f"/infer/{MODEL}?image={to.ct}&output=image").content
        with to.watched() as measured, ThreadPoolExecutor(clients) as pool:
            until = time.monotonic() + seconds
            done = [row for rows in pool.map(lambda n: _client(to, n, label, until), range(clients)) for row in rows]
        if not to.is_alive():
            result.violations.append(f"the server ended with {to.server.process.returncode}")
    taken = sorted(row["seconds"] for row in done)
    wrong = Counter(f"{row['what']}: {row['wrong']}" for row in done if row["wrong"])
    result.violations += [f"{count} x {sentence}" for sentence, count in wrong.most_common()]
    result.violations += measured.violations(latency=latency)
    result.figures = {
        **measured.figures(),
        "clients": clients,
        "seconds": seconds,
        "requests": len(done),
        "errors": sum(wrong.values()),
        "busy": sum(row["status"] == BUSY for row in done),
        "p50_s": round(taken[len(taken) // 2], 3),
        "p99_s": round(taken[int(0.99 * (len(taken) - 1))], 3),
        "worst_s": round(taken[-1], 3),
        "by_request": _by_request(done),
    }
    said(f"{len(done)} requests, {sum(wrong.values())} errors, p99 {result.figures['p99_s']} s")
    return result


def _client(to: Target, number: int, label: bytes, until: float) -> list[dict[str, Any]]:
    """Send random requests one after another until the time is over."""
    rng, rows = random.Random(number), []
    tag = f"client{number}"
    with requests.Session() as session:
        while time.monotonic() < until:
            what, method, path, arguments, expected = _choose(rng, to.ct, tag, label)
            began = time.monotonic()
            try:
                response = to.request(method, path, client=session, **arguments)
                wrong = find_violation(response) or ("" if response.status_code in expected else _unexpected(response))
                status = response.status_code
            except requests.RequestException as error:
                wrong, status = type(error).__name__, 0
            rows.append({"what": what, "status": status, "seconds": time.monotonic() - began, "wrong": wrong})
    return rows


def _unexpected(response: requests.Response) -> str:
    return f"{response.status_code} {response.text[:120]}"


def _choose(
    rng: random.Random, ct: str, tag: str, label: bytes
) -> tuple[str, str, str, dict[str, Any], tuple[int, ...]]:
    """Return a request: its name, method, path, arguments, and the statuses that are right."""
    begin = rng.randrange(5)
    slab = {"data": {"params": f'{{"slices": "{begin}:{begin + 1}"}}'}}
    file = {"files": {"label": ("pet.nrrd", label)}}
    choices: list[tuple[float, tuple[str, str, str, dict[str, Any], tuple[int, ...]]]] = [
        (3, ("infer", "POST", f"/infer/{MODEL}?image={ct}&output=image", slab, (200, BUSY))),
        (3, ("info", "GET", "/info/", {}, (200,))),
        (2, ("datastore", "GET", "/datastore/?output=all", {}, (200,))),
        (2, ("series", "GET", "/ct2pet/series", {}, (200,))),
        (1, ("image", "GET", f"/datastore/image?image={ct}", {}, (200, BUSY))),
        (1, ("save label", "PUT", f"/datastore/label?image={ct}&tag={tag}", file, (200, BUSY))),
        (1, ("read label", "GET", f"/datastore/label?label={ct}&tag={tag}", {}, (200, 404, BUSY))),
        (1, ("sample", "POST", "/activelearning/first", {"json": {}}, (200,))),
        (1, ("models", "GET", "/ct2pet/models", {}, (200,))),
    ]
    weights = [weight for weight, _ in choices]
    return rng.choices([choice for _, choice in choices], weights)[0]


def _by_request(done: list[dict[str, Any]]) -> dict[str, Any]:
    found = {}
    for what in sorted({row["what"] for row in done}):
        seconds = sorted(row["seconds"] for row in done if row["what"] == what)
        found[what] = {"requests": len(seconds), "p50_s": round(seconds[len(seconds) // 2], 3),
                       "worst_s": round(seconds[-1], 3)}  # fmt: skip
    return found
