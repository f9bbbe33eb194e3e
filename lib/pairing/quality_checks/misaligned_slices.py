"""Which of a pair's slices lie so far off that a model had better not learn from them; numbers only, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib.errors import RecipeError

Axes = Sequence[float | None]  # (x, y, z), mm; None where not measured

DEFAULT_LIMIT_MM = 10.0  # the largest of 36 real pairs measures 6.3 mm; a diaphragm is off by 10 mm in 1 patient of 15


@dataclass(frozen=True)
class Alignment:
    """What becomes of a PET that lies off its CT, as far as that was measured.

    Attributes:
        max_shift_mm: Training slices that lie further off are left out: all of a pair whose body does, those around the
            diaphragm where only that does. 0 leaves none out.
        correct: The PET is moved back onto the CT by the body's shift when arrays are prepared.
    """

    max_shift_mm: float = DEFAULT_LIMIT_MM
    correct: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.max_shift_mm < math.inf:
            raise RecipeError(f"alignment.max_shift_mm must be 0 (no limit) or above, found {self.max_shift_mm}")


def shift_size_mm(shift_mm: Axes) -> float | None:
    """Return the length of a shift over the axes that were measured; None where none was."""
    measured = [mm for mm in shift_mm if mm is not None]
    return math.sqrt(sum(mm * mm for mm in measured)) if measured else None


def is_body_off(shift_mm: Axes, *, limit_mm: float) -> bool:
    """Return whether a body's measured shift is more than a limit; a limit of 0 is none."""
    return 0 < limit_mm < (shift_size_mm(shift_mm) or 0.0)


def is_diaphragm_off(diaphragm_mm: float | None, *, limit_mm: float) -> bool:
    """Return whether a diaphragm's measured shift is more than a limit; a limit of 0 is none."""
    return 0 < limit_mm < abs(diaphragm_mm or 0.0)
