"""How many pairs of CT and PET there are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairCounts:
    """How many pairs there are of each kind; how many are on each side is None where the split file is damaged."""

    total: int
    plausible: int
    implausible: int
    unchecked: int
    train: int | None
    validation: int | None
    test: int | None
    trouble: str = ""
