"""Main loop of every child process: set resource limits, then answer requests. Imports nothing of ct2pet.

Run by `child_process.py`; the limits are set before any untrusted data is read.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
MAX_FILES = 16  # open at once: three pipes, the file, and descriptors of libraries
FALLBACK_MAPPED_BYTES = 2 * 2**30  # by the libraries, if the system does not report it
Response = tuple[dict[str, Any], Iterable[bytes | memoryview]]


def serve(respond: Callable[[dict[str, Any]], Response], *, errors: tuple[type[Exception], ...] = ()) -> None:
    """Answer requests until the input ends.

    Each request has the additional memory (`memory_bytes`) and processor time (`cpu_s`) that it may use, and the total
    processor time of the process (`cpu_total_s`). An error of the reader is sent as a response (`error`); a crash ends
    the process, which is its purpose. The content is followed by a second line, which has errors that occur while the
    content is read.

    Args:
        respond: Returns the line to send, in which `bytes` is the size of the content, and the content.
        errors: The reader's own errors, whose messages are sent unchanged.
    """
    responses = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # output of libraries is not a response
    _harden()
    mapped = mapped_bytes()
    expected: tuple[type[Exception], ...] = (*errors, RuntimeError, MemoryError, ValueError, OSError)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit(resource.RLIMIT_AS, mapped + request["memory_bytes"])
        _limit(resource.RLIMIT_CPU, math.ceil(min(used_cpu_s() + request["cpu_s"], request["cpu_total_s"])))
        try:
            head, content = respond(request)
        except expected as error:
            _send_line(responses, _error_line(error, errors))
            continue
        _send_line(responses, head)
        last, remaining = {}, head["bytes"]
        try:
            for piece in content:
                remaining -= _send(responses, piece)
        except expected as error:
            last = _error_line(error, errors)
        while remaining > 0:
            remaining -= _send(responses, bytes(min(remaining, 2**20)))
        _send_line(responses, last)


def _error_line(error: Exception, errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    name = "" if isinstance(error, errors) else f"{type(error).__name__}: "
    return {"error": f"{name}{error}"[-2000:]}


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends, even within a library call, if the system supports it."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def mapped_bytes() -> int:
    """Return the size of the address space that this process has mapped."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        return FALLBACK_MAPPED_BYTES


def used_cpu_s() -> float:
    """Return the processor time of this process in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _harden() -> None:
    """Irrevocably forbid writing files, starting processes, opening many files, and core dumps."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
    ):
        resource.setrlimit(kind, (value, value))


def _limit(kind: int, value: int) -> None:
    if sys.platform == "darwin" and kind == resource.RLIMIT_AS:  # not enforced there, and setting it may fail
        return
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _send_line(file: Any, values: dict[str, Any]) -> None:
    _send(file, json.dumps(values).encode() + b"\n")


def _send(file: Any, content: bytes | memoryview) -> int:
    """Send all bytes; return their number."""
    view = memoryview(content).cast("B")
    count = len(view)
    while len(view):
        view = view[file.write(view) :]
    return count
