"""Limits of misalignment for training slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib.errors import RecipeError

Axes = Sequence[float | None]  # (x, y, z), mm; None where not measured

DEFAULT_LIMIT_MM = 10.0  # the largest shift of 36 real pairs is 6.3 mm; a diaphragm is off by 10 mm in 1 of 15 patients


@dataclass(frozen=True)
class Alignment:
    """How measured misalignment of a PET and its CT is treated.

    Attributes:
        max_shift_mm: Training slices with a larger shift are excluded: all slices of a pair if its body is shifted,
            those around the diaphragm if only that is. 0 excludes none.
        correct: Whether the PET is moved back by the shift of the body when arrays are prepared.
    """

    max_shift_mm: float = DEFAULT_LIMIT_MM
    correct: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_shift_mm < math.inf:
            raise RecipeError(f"alignment.max_shift_mm must be 0 (no limit) or above, found {self.max_shift_mm}")


def shift_size_mm(shift_mm: Axes) -> float | None:
    """Return the length of a shift over the measured axes; None if no axis was measured."""
    measured = [mm for mm in shift_mm if mm is not None]
    return math.sqrt(sum(mm * mm for mm in measured)) if measured else None


def is_body_off(shift_mm: Axes, *, limit_mm: float) -> bool:
    """Return whether the measured shift of the body exceeds a limit; 0 means no limit."""
    return 0 < limit_mm < (shift_size_mm(shift_mm) or 0.0)


def is_diaphragm_off(diaphragm_mm: float | None, *, limit_mm: float) -> bool:
    """Return whether the measured shift of the diaphragm exceeds a limit; 0 means no limit."""
    return 0 < limit_mm < abs(diaphragm_mm or 0.0)
