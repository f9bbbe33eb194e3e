"""A mutant: files as they were, some of them broken, and what of the untouched files contradicts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mutant:
    """What was done to a subject.

    Attributes:
        kind: Of the mutation.
        what: In words: which attribute, which file, which value.
        files: The broken files by name; the subject's others stay as they are.
        contradiction: What of the untouched files says otherwise; empty where nothing does.
        tolerance: Relative difference from which it counts.
        place_mm: How far a place may move: readers may forgive a slice some tenths of a millimetre.
    """

    kind: str
    what: str
    files: Mapping[str, bytes] = field(repr=False)
    contradiction: str
    tolerance: float = 1e-4
    place_mm: float = 0.01
