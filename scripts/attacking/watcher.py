"""Poll `GET /info/` and the memory of a server's processes, in a separate process that attacks do not slow down.

Usage: watcher.py HOST PORT PID [TOKEN]. Measure until stdin is closed, then print one JSON object.
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
INFO_TIMEOUT_S = 120.0  # of one request
MB = 1e6


def main() -> None:
    """Measure until stdin is closed."""
    host, port, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    token = sys.argv[4] if len(sys.argv) > 4 else ""
    done = threading.Event()
    memory: dict[str, Any] = {}
    latencies: list[float] = []
    failures: list[str] = []
    threads = [
        threading.Thread(target=_measure_memory, args=(pid, done, memory)),
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
    """Poll `/info/` with a new connection each time, as new clients do."""
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
        elapsed_s = time.perf_counter() - began
        latencies.append(elapsed_s)
        done.wait(max(0.0, POLL_INTERVAL_S - elapsed_s))


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


def _measure_memory(pid: int, done: threading.Event, memory: dict[str, Any]) -> None:
    """Record the peak memory of the server, of its largest child, and of all together."""
    server = memory_mb(pid)
    memory |= {"at_begin_mb": server.get("VmRSS", 0), "server_peak_mb": 0.0, "child_peak_mb": 0.0, "total_peak_mb": 0.0}
    memory["children"] = 0
    seen: set[int] = set()
    own_command = _command(pid)
    is_last = False
    while not is_last:
        is_last = done.wait(POLL_INTERVAL_S)  # measure once more after the end
        # a forked child shares and reports the memory of the server until it executes its own program
        server, children = memory_mb(pid), [child for child in descendants(pid) if _command(child) != own_command]
        sizes = [memory_mb(child) for child in children]
        seen.update(children)
        # RssAnon excludes libraries, whose pages are shared
        total = server.get("VmRSS", 0) + sum(size.get("RssAnon", 0) for size in sizes)
        memory["server_peak_mb"] = max(memory["server_peak_mb"], server.get("VmHWM", 0))
        memory["child_peak_mb"] = max([memory["child_peak_mb"], *(size.get("VmHWM", 0) for size in sizes)])
        memory["total_peak_mb"] = max(memory["total_peak_mb"], total, server.get("VmHWM", 0))
        memory["children"] = len(seen)


def memory_mb(pid: int) -> dict[str, float]:
    """Return the memory fields of /proc/PID/status, MB; empty if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # the process has ended
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
    except OSError:  # the process has ended
        return b""


def descendants(pid: int) -> list[int]:
    """Return the process ids of all descendants of a process."""
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
