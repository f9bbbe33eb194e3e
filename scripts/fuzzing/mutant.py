"""A mutant: mutated files of a subject, and the unchanged data that contradict the mutation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mutant:
    """A mutation of a subject.

    Attributes:
        kind: Kind of the mutation.
        what: Description: attribute, file, value.
        files: Mutated files by name; the other files of the subject are unchanged.
        contradiction: Unchanged data that contradict the mutation; empty if there are none.
        tolerance: Relative difference of values that is tolerated.
        place_mm: Displacement that is tolerated, mm; readers tolerate some tenths of a millimetre for a slice.
    """

    kind: str
    what: str
    files: Mapping[str, bytes] = field(repr=False)
    contradiction: str
    tolerance: float = 1e-4
    place_mm: float = 0.01
