"""Order of slab requests: slices around the displayed one first, then outward until all are received.

Slices are counted from 0; a range is (start, stop), `stop` excluded. Pure functions without I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]
MAX_SLAB_SLICES = 16  # enough to keep the overhead of a request low, few enough to show progress
# The first slab should be displayed within a tenth of the total time, which includes reading the CT: a sixteenth of the
# slices, less the equivalent of the constant overhead of reading and requesting. Of 300 slices of 512 x 512, 16 were
# received after 0.04 of the total time when the CT had been read before, after 0.2 when not (docs/benchmarks)
FIRST_SLAB_DIVISOR = 16
OVERHEAD_SLICES = 40


def first_slab_size(slices: int) -> int:
    """Return the number of slices of the first slab, given the number of requested slices."""
    return max(1, min(MAX_SLAB_SLICES, (slices - OVERHEAD_SLICES) // FIRST_SLAB_DIVISOR))


def next_slab(missing: Sequence[Range], centre: int, size: int) -> Range:
    """Return the slab to request next: the missing slices nearest to a centre.

    Args:
        missing: Ranges that were not received yet, sorted, not adjacent, at least one.
        centre: The displayed slice; it may be outside of the ranges.
        size: Maximum number of slices of the slab, at least 1.

    Returns:
        A part of one missing range, centred if the centre is missing.
    """
    start, stop = min(missing, key=lambda gap: _distance(gap, centre))
    if centre < start:
        return start, min(stop, start + size)
    if centre >= stop:
        return max(start, stop - size), stop
    first = min(max(start, centre - size // 2), max(start, stop - size))
    return first, min(stop, first + size)


def slab_order(requested: Range, centre: int, *, size: int = MAX_SLAB_SLICES, first: int = 0) -> tuple[Range, ...]:
    """Return the slabs of a range in the order of their requests while the centre does not change.

    Args:
        requested: The requested slices, at least one.
        centre: The displayed slice.
        size: Maximum number of slices of a slab.
        first: Maximum number of slices of the first one; 0 for `first_slab_size`.
    """
    missing: tuple[Range, ...] = (requested,)
    slabs: list[Range] = []
    while missing:
        limit = size if slabs else first or min(size, first_slab_size(requested[1] - requested[0]))
        slabs.append(next_slab(missing, centre, limit))
        missing = subtract(missing, slabs[-1])
    return tuple(slabs)


def missing_ranges(requested: Range, received: Iterable[Range]) -> tuple[Range, ...]:
    """Return the slices of a range that were not received yet."""
    missing: tuple[Range, ...] = (requested,) if requested[0] < requested[1] else ()
    for slab in received:
        missing = subtract(missing, slab)
    return missing


def subtract(missing: Iterable[Range], slab: Range) -> tuple[Range, ...]:
    """Return the missing ranges without the slices of a slab."""
    remaining = []
    for start, stop in missing:
        remaining += [(start, min(stop, slab[0])), (max(start, slab[1]), stop)]
    return tuple((start, stop) for start, stop in remaining if start < stop)


def count_slices(ranges: Iterable[Range]) -> int:
    """Return the total number of slices of ranges."""
    return sum(stop - start for start, stop in ranges)


def seconds_left(durations: Sequence[tuple[int, float]], missing: Iterable[Range]) -> float | None:
    """Return the estimated remaining time in seconds, from the mean time per slice; None before the first slab.

    Args:
        durations: Number of slices and seconds of each slab. The first one includes work that is done once, such as
            reading the CT, so it is ignored as soon as there are others.
        missing: Ranges that were not received yet.
    """
    measured = durations[1:] or durations
    slices = sum(count for count, _ in measured)
    if not slices:
        return None
    return sum(seconds for _, seconds in measured) / slices * count_slices(missing)


def _distance(gap: Range, centre: int) -> int:
    """Return the distance between a slice and the nearest slice of a range."""
    return max(gap[0] - centre, centre - (gap[1] - 1), 0)
