"""Match the slices of a CT with those of a PET by position."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.dicom.scan.scan import ScannedSeries
from lib.errors import PairingError

DEFAULT_TOLERANCE_MM = 0.2  # the paper's
ROUNDING_MM = 1e-6  # 0.2 is inclusive although -871.51 and -871.31 differ by 0.20000000000004547
PARALLEL_TOLERANCE_DEG = 0.2  # planes with smaller angles count as parallel: 1 mm at the edge of a 600 mm field of view

Positions = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class SliceMatch:
    """Pairs of slice indices (CT, PET) by CT slice, and the largest distance of a PET slice to its nearest CT slice."""

    pairs: tuple[tuple[int, int], ...]
    largest_offset_mm: float


def match_slices(ct_positions_mm: Positions, pet_positions_mm: Positions, *, tolerance_mm: float) -> SliceMatch:
    """Return the slice pairs within a tolerance, each slice at most once; the nearest are matched first.

    Args:
        ct_positions_mm, pet_positions_mm: Positions along a common axis, in any order.
        tolerance_mm: Maximum offset of a pair, inclusive.

    Raises:
        PairingError: The tolerance is negative, or there are no slices.
    """
    if not tolerance_mm >= 0 or math.isinf(tolerance_mm):
        raise PairingError(
            f"tolerance {tolerance_mm} mm, expected 0 or more (the paper's is {DEFAULT_TOLERANCE_MM} mm)"
        )
    if not len(ct_positions_mm) or not len(pet_positions_mm):
        raise PairingError("cannot match slices: one of the two stacks is empty")
    ct_order = sorted(range(len(ct_positions_mm)), key=lambda i: float(ct_positions_mm[i]))
    ct_sorted = [float(ct_positions_mm[i]) for i in ct_order]
    reach = tolerance_mm + ROUNDING_MM
    candidates: list[tuple[float, int, int]] = []
    largest = 0.0
    for pet_index, position in enumerate(map(float, pet_positions_mm)):
        near = bisect_left(ct_sorted, position)
        largest = max(largest, min(abs(ct_sorted[i] - position) for i in (near - 1, near) if 0 <= i < len(ct_sorted)))
        for i in range(bisect_left(ct_sorted, position - reach), bisect_right(ct_sorted, position + reach)):
            candidates.append((abs(ct_sorted[i] - position), ct_order[i], pet_index))
    return SliceMatch(_one_to_one(candidates), largest)


def _one_to_one(candidates: list[tuple[float, int, int]]) -> tuple[tuple[int, int], ...]:
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, ct_index, pet_index in sorted(candidates):
        if ct_index not in pairs and pet_index not in taken:
            pairs[ct_index] = pet_index
            taken.add(pet_index)
    return tuple(sorted(pairs.items()))


def common_positions_mm(ct: ScannedSeries, pet: ScannedSeries) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the slice positions of both series along the CT's normal, each in its own stack order.

    Raises:
        PairingError: A series has no geometry, or the planes are not parallel.
    """
    if ct.geometry is None or pet.geometry is None:
        raise PairingError(f"CT {ct.series.uid} and PET {pet.series.uid}: only usable series have slice positions")
    cosine = float(ct.geometry.normal @ pet.geometry.normal)
    angle = math.degrees(math.acos(min(1.0, abs(cosine))))
    if angle > PARALLEL_TOLERANCE_DEG:
        raise PairingError(f"its slices are tilted by {angle:.1f} degrees relative to those of CT {ct.series.uid}")
    first = float(np.asarray(pet.geometry.origin_mm) @ ct.geometry.normal)
    start = pet.positions_mm[0]
    return ct.positions_mm, tuple(first + (position - start) * cosine for position in pet.positions_mm)
