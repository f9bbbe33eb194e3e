"""Give memory that is free back to the system: what the heap keeps for later is memory that the process holds.

glibc keeps freed blocks of up to 32 MB, in as many arenas as there are threads. After a few requests of 300 slices that
was 390 MB that no array used.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
MAPPED_BYTES = 4 * 2**20  # larger blocks go back at once; the default grows to 32 MB as the process runs
MAX_ARENAS = 4


def limit_heap() -> None:
    """Let the heap keep little of what is freed; nothing where the C library is not glibc."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
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
