"""Work in threads other than the caller's: in order, with few results in memory, and without work left after an error.

Threads shorten only what waits, or releases the interpreter's lock: files, pipes, numpy, torch.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

STOP_S = 0.1  # after which a waiting thread notices that it is to stop
Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Generator[Result, None, None]:
    """Yield the results of a function in the order of its items, computed by several threads.

    At most `threads` results are computed ahead. An exception is raised at the place of its item. Close the iterator
    (`contextlib.closing`) to wait for the threads.

    Args:
        function: Called in any thread.
        items: Its arguments, taken by the caller's thread.
        threads: With one, the function is called by the caller's thread when its result is needed.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from map_in_pool(pool, function, items, ahead=threads)


def map_in_pool(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Generator[Result, None, None]:
    """Yield the results of a function in the order of its items, at most `ahead` computed ahead; the pool stays open.

    If the iterator is closed or an exception is raised, items that no thread has begun are left out.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def ahead(items: Iterable[Item], *, count: int = 1) -> Generator[Item, None, None]:
    """Yield items that another thread takes from an iterable, at most `count` ahead of the caller.

    An exception of the iterable is raised after the items before it. Close the iterator (`contextlib.closing`) to stop
    the thread after its current item.
    """
    ready: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(count)
    stopped = threading.Event()

    def put(is_item: bool, value: Item | BaseException | None) -> None:
        """Wait for room in the queue, unless the caller has stopped."""
        while not stopped.is_set():
            try:
                ready.put((is_item, value), timeout=STOP_S)
                break
            except queue.Full:
                continue

    def produce() -> None:
        """Put all items into the queue, then None or the error that ended them."""
        try:
            for item in items:
                put(True, item)
                if stopped.is_set():
                    return
            put(False, None)
        except BaseException as error:  # raised by the caller's thread
            put(False, error)

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return
    finally:
        stopped.set()
        thread.join()
