"""Slices within the tolerance are paired one to one, the nearest first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import PairingError
from lib.pairing.pairs import match_slices


@pytest.mark.parametrize(
    ("ct_mm", "pet_mm", "tolerance_mm", "pairs", "largest"),
    [
        ([0, 3, 6], [0, 3, 6], 0.2, ((0, 0), (1, 1), (2, 2)), 0.0),
        ([0, 3, 6], [6, 3, 0], 0.2, ((0, 2), (1, 1), (2, 0)), 0.0),  # stacks that run against each other
        ([0, 3, 6], [0.1, 3.3, 6.2], 0.2, ((0, 0), (2, 2)), 0.3),
        ([0, 3, 6], [1.5, 4.5], 0.2, (), 1.5),  # as STS_031: offset by half a slice
        ([0, 3, 6, 9], [3, 6], 0.2, ((1, 0), (2, 1)), 0.0),
        ([3, 6], [0, 3, 6, 9], 0.2, ((0, 1), (1, 2)), 3.0),
        ([-871.51], [-871.31], 0.2, ((0, 0),), 0.2),  # differ by 0.20000000000004547
        ([-871.51], [-871.3099], 0.2, (), 0.2001),
        ([0, 1, 2, 3, 4, 5, 6], [0, 3, 6], 1.0, ((0, 0), (3, 1), (6, 2)), 0.0),  # the nearest of several
        ([0, 0.3], [0.2], 0.5, ((1, 0),), 0.1),
        ([0, 10], [4, 5], 6.0, ((0, 0), (1, 1)), 5.0),  # each slice once
        ([0, 3], [0, 3], 0.0, ((0, 0), (1, 1)), 0.0),
    ],
)  # fmt: skip
def test_worked_pairs(
    ct_mm: list[float], pet_mm: list[float], tolerance_mm: float, pairs: tuple[tuple[int, int], ...], largest: float
) -> None:
    match = match_slices(ct_mm, pet_mm, tolerance_mm=tolerance_mm)
    assert match.pairs == pairs
    assert match.largest_offset_mm == pytest.approx(largest)


@given(
    ct_mm=st.lists(st.floats(-1000, 1000), min_size=1, max_size=20),
    pet_mm=st.lists(st.floats(-1000, 1000), min_size=1, max_size=20),
    tolerance_mm=st.floats(0, 100),
)
def test_every_pair_is_one_to_one_and_within_the_tolerance(
    ct_mm: list[float], pet_mm: list[float], tolerance_mm: float
) -> None:
    match = match_slices(ct_mm, pet_mm, tolerance_mm=tolerance_mm)
    for side in (0, 1):
        assert len({pair[side] for pair in match.pairs}) == len(match.pairs)
    assert all(abs(ct_mm[i] - pet_mm[j]) <= tolerance_mm + 2e-6 for i, j in match.pairs)
    distances = np.abs(np.subtract.outer(ct_mm, pet_mm))
    assert match.largest_offset_mm == pytest.approx(distances.min(axis=0).max())
    if distances.min() <= tolerance_mm:
        assert match.pairs


@pytest.mark.parametrize("tolerance_mm", [-0.1, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(tolerance_mm: float) -> None:
    with pytest.raises(PairingError, match=r"tolerance .* mm, expected 0 or more"):
        match_slices([0.0], [0.0], tolerance_mm=tolerance_mm)


def test_an_empty_stack_is_refused() -> None:
    with pytest.raises(PairingError, match="one of the two stacks is empty"):
        match_slices([], [0.0], tolerance_mm=0.2)
