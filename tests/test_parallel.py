"""Work in threads: results in order, few ahead, errors in their place, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from lib.parallel import ahead, ordered_map


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_are_in_the_order_of_the_items(threads: int) -> None:
    later = threading.Event()

    def square(number: int) -> int:
        """Return a square; with several threads, the first after the second."""
        if threads > 1 and number == 0:
            later.wait()
        if number == 1:
            later.set()
        return number**2

    assert list(ordered_map(square, range(20), threads=threads)) == [number**2 for number in range(20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_in_its_place_and_no_more_items_are_taken(threads: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def half(number: int) -> float:
        if number == 4:
            raise ValueError("four")
        return number / 2

    results = ordered_map(half, items(), threads=threads)
    assert [next(results) for _ in range(4)] == [0, 0.5, 1, 1.5]
    with pytest.raises(ValueError, match="four"):
        next(results)
    assert len(taken) <= 5 + threads


def test_items_are_taken_ahead_but_not_all_of_them() -> None:
    taken, enough = [], threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            if number == 3:
                enough.set()
            yield number

    with closing(ahead(items(), count=2)) as numbers:
        assert next(numbers) == 0
        enough.wait()  # 1 and 2 are ready, and 3 waits for room
        assert taken == [0, 1, 2, 3]
        assert list(numbers) == list(range(1, 100))


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    numbers = ahead(items())
    assert next(numbers) == 1
    with pytest.raises(ValueError, match="two"):
        next(numbers)


def test_closing_stops_the_thread() -> None:
    before, closed = threading.active_count(), threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    source = items()
    with closing(ahead(source)) as numbers:
        next(numbers)
    assert threading.active_count() == before
    source.close()
    assert closed.is_set()
