"""Number of CT/PET pairs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PairCounts:
    """Number of pairs of each kind; the numbers on each side are None if the split file is damaged."""

    total: int
    plausible: int
    implausible: int
    unchecked: int
    train: int | None
    validation: int | None
    test: int | None
    trouble: str = ""
