"""Return free heap memory to the system.

glibc keeps freed blocks of up to 32 MB, in as many arenas as there are threads. After a few requests of 300 slices that
was 390 MB that no array used.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_ARENA_MAX = -8  # malloc.h
MAX_ARENAS = 4


def limit_heap() -> None:
    """Let threads share a few heaps; do nothing if the C library is not glibc.

    A lower limit for blocks that are mapped one by one keeps less still, and costs a fifth of the network's speed.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_ARENA_MAX, MAX_ARENAS)


def return_free_memory() -> None:
    """Return all free memory of the heap to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None
