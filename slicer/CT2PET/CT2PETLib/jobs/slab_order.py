"""Which slices are asked for next: those round the slice on screen first, then outward until all are there.

Slices are counted from 0; a range is (start, stop), without stop. Nothing here asks or waits: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
MAX_SLAB_SLICES = 16  # slices: enough that a request costs little beside its work, few enough to see the PET grow
# The first slab is to be on screen within a tenth of the whole's time, in which the CT has to be read, too: a sixteenth
# of the slices, less what reading and asking take whatever there is to draw. 300 slices of 512 x 512: 16 of them came
# after 0.08 of the whole's time, the CT not read before (docs/benchmarks)
FIRST_SLAB_DIVISOR = 16
OVERHEAD_SLICES = 40  # slices


def first_slab_size(count: int) -> int:
    """Return how many slices the first slab has, of so many wanted ones."""
    return max(1, min(MAX_SLAB_SLICES, (count - OVERHEAD_SLICES) // FIRST_SLAB_DIVISOR))


def next_slab(missing: Sequence[Range], centre: int, size: int) -> Range:
    """Return the slab to ask for next: the missing slices nearest to a centre.

    Args:
        missing: What is not there yet, ranges in order that do not touch, at least one.
        centre: The slice on screen; it may lie anywhere.
        size: Most slices of the slab, at least 1.

    Returns:
        A part of one missing range; it lies round the centre where that is missing.
    """
    start, stop = min(missing, key=lambda gap: _distance(gap, centre))
    if centre < start:
        return start, min(stop, start + size)
    if centre >= stop:
        return max(start, stop - size), stop
    first = min(max(start, centre - size // 2), max(start, stop - size))
    return first, min(stop, first + size)


def slab_order(wanted: Range, centre: int, *, size: int = MAX_SLAB_SLICES, first: int = 0) -> tuple[Range, ...]:
    """Return the slabs of a range in the order in which they are asked for, as long as the centre stays.

    Args:
        wanted: The slices of interest, at least one.
        centre: The slice on screen.
        size: Most slices of a slab.
        first: Most slices of the first one; 0 for what `first_slab_size` says.
    """
    missing: tuple[Range, ...] = (wanted,)
    slabs: list[Range] = []
    while missing:
        most = size if slabs else first or min(size, first_slab_size(wanted[1] - wanted[0]))
        slabs.append(next_slab(missing, centre, most))
        missing = without(missing, slabs[-1])
    return tuple(slabs)


def missing_ranges(wanted: Range, have: Iterable[Range]) -> tuple[Range, ...]:
    """Return which slices of a range are not there yet."""
    missing: tuple[Range, ...] = (wanted,) if wanted[0] < wanted[1] else ()
    for slab in have:
        missing = without(missing, slab)
    return missing


def without(missing: Iterable[Range], slab: Range) -> tuple[Range, ...]:
    """Return what is still missing when a slab has come."""
    left = []
    for start, stop in missing:
        left += [(start, min(stop, slab[0])), (max(start, slab[1]), stop)]
    return tuple((start, stop) for start, stop in left if start < stop)


def count_slices(ranges: Iterable[Range]) -> int:
    """Return how many slices ranges hold together."""
    return sum(stop - start for start, stop in ranges)


def seconds_left(drawn: Sequence[tuple[int, float]], missing: Iterable[Range]) -> float | None:
    """Return the seconds until all is there: the mean of the slabs so far, by slice; None before the first.

    Args:
        drawn: Slices and seconds of each slab. The first one's time holds what is done once, such as reading the CT;
            as soon as there are others it is left out.
        missing: What is still to come.
    """
    measured = drawn[1:] or drawn
    slices = sum(count for count, _ in measured)
    if not slices:
        return None
    return sum(seconds for _, seconds in measured) / slices * count_slices(missing)


def _distance(gap: Range, centre: int) -> int:
    """Return how far the nearest slice of a range lies from a slice."""
    return max(gap[0] - centre, centre - (gap[1] - 1), 0)
