"""Poll `GET /info/` and the memory of a server's processes, in a process of its own that no attack slows down.

Usage: watcher.py HOST PORT PID [TOKEN]. Measure until standard input is closed, then print one JSON object.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

POLL_INTERVAL_S = 0.05
INFO_TIMEOUT_S = 120.0  # of one request; a server that is silent for longer counts as not answering
MB = 1e6


def main() -> None:
    """Measure until standard input ends."""
    host, port, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    token = sys.argv[4] if len(sys.argv) > 4 else ""
    done = threading.Event()
    memory: dict[str, Any] = {}
    latencies: list[float] = []
    failures: list[str] = []
    threads = [
        threading.Thread(target=_watch_memory, args=(pid, done, memory)),
        threading.Thread(target=_poll_info, args=(host, port, token, done, latencies, failures)),
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    done.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"info": _summary(latencies, failures), "memory": memory}))


def _poll_info(
    host: str, port: int, token: str, done: threading.Event, latencies: list[float], failures: list[str]
) -> None:
    """Ask for `/info/` again and again, each time by a new connection, as a new client does."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while not done.is_set():
        began = time.perf_counter()
        try:
            connection = http.client.HTTPConnection(host, port, timeout=INFO_TIMEOUT_S)
            connection.request("GET", "/info/", headers=headers)
            response = connection.getresponse()
            response.read()
            connection.close()
            if response.status != 200:
                failures.append(str(response.status))
        except (OSError, http.client.HTTPException) as error:
            failures.append(type(error).__name__)
        taken = time.perf_counter() - began
        latencies.append(taken)
        done.wait(max(0.0, POLL_INTERVAL_S - taken))


def _summary(latencies: list[float], failures: list[str]) -> dict[str, Any]:
    ordered = sorted(latencies)
    rank = min(len(ordered) - 1, int(0.99 * len(ordered)))
    return {
        "requests": len(ordered),
        "worst_s": round(ordered[-1], 3),
        "p99_s": round(ordered[rank], 3),
        "median_s": round(ordered[len(ordered) // 2], 3),
        "failures": {kind: failures.count(kind) for kind in sorted(set(failures))},
    }


def _watch_memory(pid: int, done: threading.Event, memory: dict[str, Any]) -> None:
    """Note the peak of the server, of its largest child, and of all of them together."""
    server = _megabytes(pid)
    memory |= {"at_begin_mb": server.get("VmRSS", 0), "server_peak_mb": 0.0, "child_peak_mb": 0.0, "total_peak_mb": 0.0}
    memory["children"] = 0
    seen: set[int] = set()
    own_command = _command(pid)
    while True:
        # until a child has started its program, it shows the memory of the server, which it shares
        server, children = _megabytes(pid), [child for child in _descendants(pid) if _command(child) != own_command]
        sizes = [_megabytes(child) for child in children]
        seen.update(children)
        # libraries are shared pages of files
        total = server.get("VmRSS", 0) + sum(size.get("RssAnon", 0) for size in sizes)
        memory["server_peak_mb"] = max(memory["server_peak_mb"], server.get("VmHWM", 0))
        memory["child_peak_mb"] = max([memory["child_peak_mb"], *(size.get("VmHWM", 0) for size in sizes)])
        memory["total_peak_mb"] = max(memory["total_peak_mb"], total, server.get("VmHWM", 0))
        memory["children"] = len(seen)
        if done.wait(POLL_INTERVAL_S):
            return


def _megabytes(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return {}
    found = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS", "RssAnon"):
            found[name] = round(int(value.split()[0]) * 1024 / MB, 1)
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def _descendants(pid: int) -> list[int]:
    found, parents = [], [pid]
    while parents:
        parent = parents.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                children = [int(child) for child in task.read_text().split()]
            except OSError:
                continue
            found += children
            parents += children
    return found


if __name__ == "__main__":
    main()
