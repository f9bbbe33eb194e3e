"""Suite `downloads`: clients that request large files, read a little, and disconnect."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.phantom.generate import PhantomSettings
from scripts.attacking.cases import Notify
from scripts.attacking.result import Result
from scripts.attacking.target import FAST_NETWORK, Target, running_target

COUNT = 48
HELD_S = 10.0  # how long each client keeps its connection
READ_BYTES = 1000
LARGE = PhantomSettings(slices=120, ct_matrix=512, ct_pixel_mm=0.8, pet_matrix=128, pet_pixel_mm=3.2)
CONNECT_TIMEOUT_S = 30.0


def downloads_suite(
    folder: Path, *, notify: Notify, count: int = COUNT, held_s: float = HELD_S, phantom: PhantomSettings = LARGE,
    latency: bool = True,
) -> Result:  # fmt: skip
    """Measure the server under `count` concurrent aborted downloads: half read a little, half read nothing."""
    result = Result("downloads")
    notify(f"generating a phantom of {phantom.slices} slices")
    with running_target(folder, phantom=phantom, network=(*FAST_NETWORK, "pixel_mm=8")) as target:
        paths = [f"/datastore/image?image={target.ct}", f"/datastore/label?label={target.ct}&tag=final", "/model/unet"]
        label = target.request("GET", "/datastore/?output=train").json()[0]["label"]
        pet = label["id"] if isinstance(label, dict) else label
        paths[1] = f"/datastore/label?label={pet}&tag=final"
        with target.watched() as measured, ThreadPoolExecutor(count) as pool:
            downloads = enumerate(itertools.islice(itertools.cycle(paths), count))
            read = list(pool.map(lambda item: _abort(target, item[1], item[0] % 2 == 0, held_s), downloads))
        notify(f"{count} downloads aborted: slowest /info/ {measured.info['worst_s']} s")
        with target.watched() as after:
            began = time.monotonic()
            response = target.request("GET", paths[0], stream=True)
            response.raw.read(READ_BYTES)
            first_s = time.monotonic() - began
            response.close()
        if response.status_code not in (200, 503):
            result.violations.append(f"a later download has status {response.status_code}")
        if not target.is_alive():
            result.violations.append(f"the server ended with {target.server.process.poll()}")
    result.violations += measured.violations(latency=latency) + after.violations(latency=latency)
    result.metrics = {
        **measured.metrics(),
        "downloads": count,
        "begun": sum(size > 0 for size in read),
        "first_bytes_afterwards_s": round(first_s, 2),
        "info_worst_afterwards_s": after.info["worst_s"],
    }
    return result


def _abort(target: Target, path: str, reads: bool, held_s: float) -> int:
    """Request a file, read a little of it or nothing, wait, and disconnect; return the number of bytes read."""
    token = f"Authorization: Bearer {target.server.token}\r\n" if target.server.token else ""
    head = f"GET {path} HTTP/1.1\r\nHost: {target.host[0]}:{target.host[1]}\r\n{token}\r\n"
    size = 0
    with contextlib.suppress(OSError), socket.create_connection(target.host, timeout=CONNECT_TIMEOUT_S) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode())
        if reads:
            connection.settimeout(held_s)
            with contextlib.suppress(TimeoutError):
                size = len(connection.recv(READ_BYTES))
        time.sleep(held_s)
    return size
