"""One budget for the bytes that a process holds: refused, granted in order, given back."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import memory
from lib.errors import BusyError, InputError, MemoryLimitError, OperationCancelledError
from lib.memory import MemoryBudget

WAIT_S = 30.0  # a failure's bound; nothing here takes that long


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_INTERVAL_S", 0.005)


class Cache:
    """Entries of one byte count each, the oldest first."""

    def __init__(self, **entries: int) -> None:
        self.entries: dict[Hashable, int] = dict(entries)

    def idle_bytes(self, keep: Hashable | None) -> int:
        return sum(size for key, size in self.entries.items() if key != keep)

    def evict(self, needed_bytes: int, keep: Hashable | None) -> None:
        for key in [key for key in self.entries if key != keep]:
            if needed_bytes <= 0:
                return
            needed_bytes -= self.entries.pop(key)


@contextmanager
def waiting_for(budget: MemoryBudget, *sizes: int, order: list[int]) -> Iterator[list[threading.Thread]]:
    """Start threads that reserve so many bytes each, in this order; they append their size when they hold it."""

    def work(size: int) -> None:
        with budget.reserve(size, "work"):
            order.append(size)

    threads = []
    for number, size in enumerate(sizes, start=1):
        threads.append(threading.Thread(target=work, args=(size,)))
        threads[-1].start()
        until(lambda number=number: budget.waiting == number)  # type: ignore[misc]
    yield threads
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def until(condition: object) -> None:
    assert callable(condition)
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("did not happen")


def test_a_request_above_the_limit_is_refused_with_both_sizes_and_a_remedy() -> None:
    budget = MemoryBudget(1_200_000_000)
    with (
        pytest.raises(MemoryLimitError, match=r"a volume needs 1,300 MB .* allowed are 1,200 MB: crop the volume or"),
        budget.reserve(1_300_000_000, "a volume"),
    ):
        pytest.fail("reserved")
    assert issubclass(MemoryLimitError, InputError) and budget.reserved_bytes == 0


def test_without_a_limit_everything_fits() -> None:
    budget = MemoryBudget(None)
    with budget.reserve(10**15, "a"), budget.reserve(10**15, "b") as held:
        held.grow(10**16, "b")
    assert budget.reserved_bytes == 0


def test_requests_are_granted_in_order_and_a_large_one_is_not_starved() -> None:
    budget, order = MemoryBudget(10), []  # type: ignore[var-annotated]
    with ExitStack() as held:
        held.enter_context(budget.reserve(6, "first"))
        # 2 and 3 would fit at once, but 9 was there before them
        with waiting_for(budget, 9, 2, 3, order=order):
            assert order == []
            held.close()
    assert order[0] == 9 and sorted(order) == [2, 3, 9]


def test_a_cancelled_operation_stops_waiting_and_the_next_one_proceeds() -> None:
    budget, order, cancelled, ended = MemoryBudget(10), [], threading.Event(), []  # type: ignore[var-annotated]

    def give_up() -> None:
        try:
            with budget.reserve(9, "work", cancelled=cancelled.is_set):
                pytest.fail("reserved")
        except OperationCancelledError:
            ended.append(True)

    with budget.reserve(6, "first"):
        thread = threading.Thread(target=give_up)
        thread.start()
        until(lambda: budget.waiting == 1)
        small = threading.Thread(target=lambda: order.append(budget.reserve(2, "small").__enter__() and 2))
        small.start()
        until(lambda: budget.waiting == 2)
        cancelled.set()
        thread.join(WAIT_S)
        small.join(WAIT_S)
    assert ended == [True] and order == [2] and budget.waiting == 0


def test_the_number_of_waiting_operations_is_limited() -> None:
    budget, order = MemoryBudget(10, max_waiting=2), []  # type: ignore[var-annotated]
    with ExitStack() as held:
        held.enter_context(budget.reserve(10, "first"))
        with waiting_for(budget, 1, 1, order=order):
            with pytest.raises(BusyError, match="2 operations wait"), budget.reserve(1, "third"):
                pytest.fail("reserved")
            held.close()
    assert order == [1, 1]


def test_memory_is_released_after_an_error_grown_or_not() -> None:
    budget = MemoryBudget(10)
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), budget.reserve(6, "work") as held:
            held.grow(9, "work")
            assert budget.reserved_bytes == 9
            raise ZeroDivisionError
    assert budget.reserved_bytes == 0


def test_growing_never_waits() -> None:
    budget = MemoryBudget(10)
    with budget.reserve(4, "a") as a, budget.reserve(4, "b"):
        a.grow(3, "a")  # less than it has
        with pytest.raises(BusyError, match="other requests hold"):
            a.grow(7, "a")
        with pytest.raises(MemoryLimitError):
            a.grow(11, "a")
        a.grow(6, "a")
        assert budget.reserved_bytes == 10


def test_caches_are_evicted_before_an_operation_waits_and_only_as_needed() -> None:
    budget, cache = MemoryBudget(10), Cache(old=4, wanted=3, young=2)
    budget.add_cache(cache)
    with budget.reserve(5, "work", keep="wanted"):  # 3 of the 5 are the entry that it will use
        assert cache.entries == {"wanted": 3, "young": 2}
    with budget.reserve(10, "work"):
        assert cache.entries == {}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12), st.booleans()), min_size=1, max_size=12))
def test_random_requests_never_exceed_the_limit_and_release_everything(
    requests: list[tuple[int, int, bool]],
) -> None:
    budget, most, lock = MemoryBudget(10), [0], threading.Lock()

    def work(size: int, grown: int, fails: bool) -> None:
        with suppress(MemoryLimitError, BusyError, ZeroDivisionError), budget.reserve(size, "work") as held:
            held.grow(grown, "work")
            with lock:
                most[0] = max(most[0], budget.reserved_bytes)
            if fails:
                raise ZeroDivisionError

    threads = [threading.Thread(target=work, args=request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] <= 10 and budget.reserved_bytes == 0 and budget.waiting == 0


def test_an_operation_that_may_be_alone_exceeds_the_limit_while_nothing_else_is_reserved() -> None:
    budget, cache = MemoryBudget(100, alone_bytes=300), Cache(old=40)
    budget.add_cache(cache)
    held, entered = threading.Event(), threading.Event()

    def large() -> None:
        with budget.reserve(250, "a large series", alone=True):
            entered.set()
            held.wait(WAIT_S)

    with budget.reserve(10, "another"):
        thread = threading.Thread(target=large)
        thread.start()
        until(lambda: budget.waiting == 1)
        assert not entered.is_set()
    assert entered.wait(WAIT_S)
    assert (budget.reserved_bytes, cache.entries) == (250, {})
    small = threading.Thread(target=lambda: budget.reserve(10, "small").__enter__())
    small.start()
    until(lambda: budget.waiting == 1)  # the large one runs alone
    held.set()
    for one in (thread, small):
        one.join(WAIT_S)
        assert not one.is_alive()


def test_operations_that_may_be_alone_have_their_own_limit() -> None:
    budget = MemoryBudget(100, alone_bytes=300)
    with pytest.raises(MemoryLimitError, match="allowed are"), budget.reserve(301, "a series", alone=True):
        pass
    with pytest.raises(MemoryLimitError), budget.reserve(101, "an upload"):
        pass
    with budget.reserve(50, "a series", alone=True) as reservation:
        reservation.grow(200, "a series")
        assert budget.reserved_bytes == 200
        with pytest.raises(MemoryLimitError):
            reservation.grow(301, "a series")
