"""Which of a pair's slices lie so far off that a model had better not learn from them; numbers only, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

Axes = Sequence[float | None]  # (x, y, z), mm; None where not measured

DEFAULT_LIMIT_MM = 10.0  # 1 of 36 real pairs measures more than 8 mm; half a dome's excursion in quiet breathing


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
