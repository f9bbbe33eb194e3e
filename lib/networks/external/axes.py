"""The order and direction of a network's axes, written as letters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.errors import RecipeError
from lib.types import FloatArray

MAX_AXES = 6
CANONICAL = "SRC"  # slices toward Superior, rows toward Posterior, columns toward Left


@dataclass(frozen=True)
class Axes:
    """Axes such as `NSRC` or `N1rcS`, of one image.

    Attributes:
        letters: `N` images of a batch (always 1 here), `S` slices, `R` rows, `C` columns, `1` an axis of length 1. A
            small letter reverses the direction of S, R or C. `S` may be missing: one slice.
    """

    letters: str

    def __post_init__(self) -> None:
        named = self.letters.replace("1", "")
        large = named.upper()
        is_complete = {"R", "C"} <= set(large) <= set("NSRC") and len(large) == len(set(large))
        if not is_complete or "n" in named or len(self.letters) > MAX_AXES:
            raise RecipeError(
                f"axes {self.letters[:20]!r}: expected R and C once, N and S at most once and any 1, such as NSRC, "
                "N1SRC or NRCS; small letters r, c and s reverse an axis"
            )

    @property
    def slice_axis(self) -> int | None:
        """Position of S; None without one."""
        return self._position("S")

    def size_of(self, shape: tuple[int | None, ...], letter: str) -> int | None:
        """Return the length of an axis in a shape of these axes; None if it is not fixed, or there is none."""
        position = self._position(letter)
        return None if position is None else shape[position]

    def from_canonical(self, image: FloatArray) -> FloatArray:
        """Return an image (S, R, C) in this order of axes, contiguous; without S, its only slice."""
        order = [axis for axis in self.letters.upper() if axis in CANONICAL]
        dropped = image if "S" in order else image[0]
        present = CANONICAL if "S" in order else CANONICAL[1:]
        ordered = dropped.transpose([present.index(axis) for axis in order])
        expanded = ordered[tuple(slice(None) if axis in CANONICAL else None for axis in self.letters.upper())]
        return np.ascontiguousarray(np.flip(expanded, self._reversed()))

    def to_canonical(self, array: FloatArray) -> FloatArray:
        """Return the image (S, R, C) of an array in this order of axes.

        Raises:
            ValueError: The array has another number of axes, or one of N and 1 is longer than 1.
        """
        if array.ndim != len(self.letters):
            raise ValueError(f"{array.ndim} axes, expected {len(self.letters)} ({self.letters})")
        directed = np.flip(array, self._reversed())
        single = tuple(n for n, axis in enumerate(self.letters) if axis in "N1")
        image = np.squeeze(directed, axis=single)  # raises ValueError where one is longer
        order = [axis for axis in self.letters.upper() if axis in CANONICAL]
        if "S" not in order:
            image, order = image[None], ["S", *order]
        return image.transpose([order.index(axis) for axis in CANONICAL])

    def _position(self, letter: str) -> int | None:
        position = self.letters.upper().find(letter)
        return None if position < 0 else position

    def _reversed(self) -> tuple[int, ...]:
        return tuple(n for n, axis in enumerate(self.letters) if axis in "src")
