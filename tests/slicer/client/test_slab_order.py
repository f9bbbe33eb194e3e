"""Order of slabs: examples worked by hand, and properties for arbitrary ranges."""

from __future__ import annotations

import pytest
from CT2PETLib.jobs.slab_order import (
    MAX_SLAB_SLICES,
    count_slices,
    first_slab_size,
    missing_ranges,
    next_slab,
    seconds_left,
    slab_order,
    subtract,
)
from hypothesis import given
from hypothesis import strategies as st

RANGES = st.tuples(st.integers(0, 400), st.integers(1, 400)).map(lambda pair: (pair[0], pair[0] + pair[1]))
SIZES = st.integers(1, 40)


def distance(slab: tuple[int, int], centre: int) -> int:
    return max(slab[0] - centre, centre - (slab[1] - 1), 0)


def test_centre_first_then_the_nearest_side() -> None:
    # 50 in the middle of 42..58: 8 below and 7 above it, so the slab above is nearer
    assert slab_order((0, 100), 50, first=16)[:4] == ((42, 58), (58, 74), (26, 42), (74, 90))


def test_centre_at_an_end() -> None:
    assert slab_order((0, 40), 2, first=16) == ((0, 16), (16, 32), (32, 40))
    assert slab_order((0, 40), 39, first=16) == ((24, 40), (8, 24), (0, 8))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (71, 1), (92, 3), (295, 15), (296, 16), (300, 16), (1500, 16)])
def test_size_of_the_first_slab(count: int, size: int) -> None:
    assert first_slab_size(count) == size
    assert slab_order((0, count), count // 2)[0] == (count // 2 - size // 2, count // 2 - size // 2 + size)


@given(RANGES, st.integers(-50, 900), SIZES, SIZES)
def test_every_slice_is_requested_exactly_once(requested: tuple[int, int], centre: int, size: int, first: int) -> None:
    slices = [k for start, stop in slab_order(requested, centre, size=size, first=first) for k in range(start, stop)]
    assert sorted(slices) == list(range(*requested))


@given(RANGES, st.integers(-50, 900), SIZES)
def test_first_slab_contains_the_slice_nearest_to_the_centre(
    requested: tuple[int, int], centre: int, first: int
) -> None:
    nearest = min(max(centre, requested[0]), requested[1] - 1)
    start, stop = slab_order(requested, centre, first=first)[0]
    assert start <= nearest < stop


@given(RANGES, st.integers(-50, 900), SIZES, SIZES)
def test_distances_to_the_centre_never_decrease(requested: tuple[int, int], centre: int, size: int, first: int) -> None:
    distances = [distance(slab, centre) for slab in slab_order(requested, centre, size=size, first=first)]
    assert distances == sorted(distances)


@given(RANGES, st.lists(RANGES, max_size=6), st.integers(-50, 900), SIZES)
def test_next_slab_is_the_nearest_missing_one(
    requested: tuple[int, int], received: list[tuple[int, int]], centre: int, size: int
) -> None:
    missing = missing_ranges(requested, received)
    present = {k for slab in received for k in range(*slab)}
    remaining = set(range(*requested)) - present
    assert {k for gap in missing for k in range(*gap)} == remaining
    assert count_slices(missing) == len(remaining)
    if missing:
        start, stop = next_slab(missing, centre, size)
        assert set(range(start, stop)) <= remaining
        assert 1 <= stop - start <= size
        assert distance((start, stop), centre) == min(abs(k - centre) for k in remaining)


def test_scrolling_moves_the_next_slab() -> None:
    missing = subtract(((0, 100),), (42, 58))
    assert next_slab(missing, 90, MAX_SLAB_SLICES) == (82, 98)
    assert next_slab(missing, 44, MAX_SLAB_SLICES) == (26, 42)  # 44 is present: 41 is nearer than 58


def test_empty_range_has_no_missing_slices() -> None:
    assert missing_ranges((5, 5), []) == ()


def test_remaining_time_ignores_the_first_slab() -> None:
    assert seconds_left([], [(0, 10)]) is None
    assert seconds_left([(4, 8.0)], [(0, 10)]) == pytest.approx(20.0)
    assert seconds_left([(4, 8.0), (16, 8.0), (16, 16.0)], [(0, 30), (60, 64)]) == pytest.approx(34 * 24 / 32)
