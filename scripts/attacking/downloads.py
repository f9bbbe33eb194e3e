"""Suite `downloads`: clients that ask for large files, read a little, and go away."""

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
from scripts.attacking.target import FAST_NETWORK, Target, target

COUNT = 48
HELD_S = 10.0  # how long each client keeps its connection
READ_BYTES = 1000
LARGE = PhantomSettings(slices=120, ct_matrix=512, ct_pixel_mm=0.8, pet_matrix=128, pet_pixel_mm=3.2)
CONNECT_TIMEOUT_S = 30.0


def downloads_suite(
    folder: Path, *, said: Notify, count: int = COUNT, held_s: float = HELD_S, phantom: PhantomSettings = LARGE,
    latency: bool = True,
) -> Result:  # fmt: skip
    """Return what `count` abandoned downloads at once do to the server: half read a little, half read nothing."""
    result = Result("downloads")
    said(f"making a phantom of {phantom.slices} slices")
    with target(folder, phantom=phantom, network=(*FAST_NETWORK, "pixel_mm=8")) as to:
        paths = [f"/datastore/image?image={to.ct}", f"/datastore/label?label={to.ct}&tag=final", "/model/unet"]
        label = to.request("GET", "/datastore/?output=train").json()[0]["label"]
        pet = label["id"] if isinstance(label, dict) else label
        paths[1] = f"/datastore/label?label={pet}&tag=final"
        with to.watched() as measured, ThreadPoolExecutor(count) as pool:
            asked = list(itertools.islice(itertools.cycle(paths), count))
            read = list(pool.map(lambda item: _abandon(to, item[1], item[0] % 2 == 0, held_s), enumerate(asked)))
        said(f"{count} downloads given up: /info/ {measured.info['worst_s']} s at worst")
        with to.watched() as after:
            began = time.monotonic()
            answer = to.request("GET", paths[0], stream=True)
            answer.raw.read(READ_BYTES)
            first_s = time.monotonic() - began
            answer.close()
        if answer.status_code not in (200, 503):
            result.violations.append(f"a download afterwards is answered {answer.status_code}")
        if not to.is_alive():
            result.violations.append(f"the server ended with {to.server.process.returncode}")
    result.violations += measured.violations(latency=latency) + after.violations(latency=latency)
    result.figures = {
        **measured.figures(),
        "downloads": count,
        "begun": sum(size > 0 for size in read),
        "first_bytes_afterwards_s": round(first_s, 2),
        "info_worst_afterwards_s": after.info["worst_s"],
    }
    return result


def _abandon(to: Target, path: str, reads: bool, held_s: float) -> int:
    """Ask for a file, read a little of it or nothing, hold the connection and go away; return the bytes read."""
    token = f"Authorization: Bearer {to.server.token}\r\n" if to.server.token else ""
    head = f"GET {path} HTTP/1.1\r\nHost: {to.host[0]}:{to.host[1]}\r\n{token}\r\n"
    size = 0
    with contextlib.suppress(OSError), socket.create_connection(to.host, timeout=CONNECT_TIMEOUT_S) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head.encode())
        if reads:
            connection.settimeout(held_s)
            with contextlib.suppress(TimeoutError):
                size = len(connection.recv(READ_BYTES))
        time.sleep(held_s)
    return size
