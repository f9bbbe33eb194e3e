"""What every child process does: put limits on itself, then answer requests. Imports nothing of ours.

Run by `child_process.py`; the limits hold before the first foreign byte is read.
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
MAX_FILES = 16  # open at once: three pipes, the file, and what a library opens of it
FALLBACK_MAPPED_BYTES = 2 * 2**30  # by the libraries, where the system does not tell
Answer = tuple[dict[str, Any], Iterable[bytes | memoryview]]


def serve(answer: Callable[[dict[str, Any]], Answer], *, errors: tuple[type[Exception], ...] = ()) -> None:
    """Answer requests until the input ends.

    Each request says how many bytes of memory (`memory_bytes`) and seconds of processor time (`cpu_s`) it may take
    more than what is taken already, and how many seconds in all (`cpu_total_s`). An error of the reader is an answer
    (`error`); a crash ends the process: that is what it is for. Behind the bytes stands a second line, which is where
    an error is that comes up while they are read.

    Args:
        answer: Returns the line that is sent, in which `bytes` tells how many follow, and these bytes.
        errors: The reader's own errors, whose messages are sent as they are.
    """
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    _harden()
    mapped = mapped_bytes()
    expected: tuple[type[Exception], ...] = (*errors, RuntimeError, MemoryError, ValueError, OSError)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit(resource.RLIMIT_AS, mapped + request["memory_bytes"])
        _limit(resource.RLIMIT_CPU, math.ceil(min(used_cpu_s() + request["cpu_s"], request["cpu_total_s"])))
        try:
            head, content = answer(request)
        except expected as error:
            _send_line(answers, _told(error, errors))
            continue
        _send_line(answers, head)
        last, left = {}, head["bytes"]
        try:
            for piece in content:
                left -= _send(answers, piece)
        except expected as error:
            last = _told(error, errors)
        while left > 0:
            left -= _send(answers, bytes(min(left, 2**20)))
        _send_line(answers, last)


def _told(error: Exception, errors: tuple[type[Exception], ...]) -> dict[str, Any]:
    name = "" if isinstance(error, errors) else f"{type(error).__name__}: "
    return {"error": f"{name}{error}"[-2000:]}


def end_with_parent(parent: int) -> None:
    """End this process when its parent ends, whatever a library is at; where the system can."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)


def mapped_bytes() -> int:
    """Return how much memory, in addresses, this process has mapped."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except OSError:
        return FALLBACK_MAPPED_BYTES


def used_cpu_s() -> float:
    """Return how much processor time this process has taken."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _harden() -> None:
    """Write no file, start no process, open few files, leave no core: for good."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
    ):
        resource.setrlimit(kind, (value, value))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _send_line(file: Any, values: dict[str, Any]) -> None:
    _send(file, json.dumps(values).encode() + b"\n")


def _send(file: Any, content: bytes | memoryview) -> int:
    """Send all of it; return how many bytes that are."""
    view = memoryview(content).cast("B")
    count = len(view)
    while len(view):
        view = view[file.write(view) :]
    return count
