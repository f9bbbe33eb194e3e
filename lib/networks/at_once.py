"""Batches computed at once on a CPU, each by a thread with one processor: small layers gain little from several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

from lib.parallel import map_in_pool

MAX_THREADS = 8
MAX_LAYER = 2**18  # values of the first layer for one slice; several batches of larger ones would take much memory

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def threads_at_once(device: torch.device, *, channels: int, rows: int, columns: int) -> int:
    """Return how many batches to compute at once; 1 to leave the processors to each layer.

    Args:
        device: Only on a CPU there are several.
        channels: Of the first layer.
        rows: Of a slice.
        columns: Of a slice.
    """
    if device.type != "cpu" or channels * rows * columns > MAX_LAYER:
        return 1
    return min(torch.get_num_threads(), MAX_THREADS)


def compute_at_once(compute: Callable[[Batch], Result], batches: Iterable[Batch], *, threads: int) -> Iterator[Result]:
    """Return an iterator over the result of each batch in order, computed at most a few batches ahead.

    Each batch is computed with one processor, so the results do not depend on the number of threads.
    """
    return map_in_pool(_pool(threads), compute, batches, ahead=threads)


def _use_one_processor() -> None:
    torch.get_num_threads()  # takes the number of the process over, which PyTorch would otherwise do at the first layer
    torch.set_num_threads(1)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads of this process for which PyTorch uses one processor each."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "slices", initializer=_use_one_processor)
    all_started = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(all_started.wait)
    all_started.wait()
    torch.set_num_threads(before)  # of this thread and of those that start later: the initializer has changed it
    return pool


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
