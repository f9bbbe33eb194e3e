"""Label maps: the organ of each voxel, and the names of the organs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import ImageFileError, InputError
from lib.imaging.geometry import Geometry
from lib.types import BoolArray

MAX_LABEL = 65_535  # a label map of a body has up to a few hundred
MAX_NAME = 64  # characters, as SegmentLabel in DICOM
SIDES = ("left", "right")

LabelArray = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Organs:
    """The organ of each voxel of a grid.

    Attributes:
        labels: Shape (K, R, C); 0 outside of all organs, n for `names[n - 1]`.
        names: Organs, each once; see `organ_name`.

    Raises:
        InputError: A label has no name.
    """

    labels: LabelArray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.size and int(self.labels.max()) > len(self.names):
            raise InputError(f"label {int(self.labels.max())}, expected at most the {len(self.names)} named ones")

    def mask(self, name: str) -> BoolArray:
        """Return the voxels of an organ, shape (K, R, C); all False for an organ that is not among the names."""
        if name not in self.names:
            return np.zeros(self.labels.shape, np.bool_)
        return np.asarray(self.labels == self.names.index(name) + 1)

    def slices(self, index: Any) -> Organs:
        """Return some slices."""
        return Organs(self.labels[index], self.names)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Organs on a grid in space; `note` states what was ignored.

    Raises:
        InputError: The shape of the labels differs from that of the geometry.
    """

    organs: Organs
    geometry: Geometry
    note: str = ""

    def __post_init__(self) -> None:
        if tuple(self.organs.labels.shape) != self.geometry.shape:
            raise InputError(
                f"labels of shape {tuple(self.organs.labels.shape)} do not fit a geometry of shape "
                f"{self.geometry.shape}"
            )


def organ_name(name: str) -> str:
    """Return the name by which an organ is compared: `Left Kidney` and `kidney_left` are both `kidney_left`.

    Letters and digits in lower case, joined by underscores, with the side at the end. Empty for a name without any.
    """
    words = re.findall(r"[^\W_]+", name.casefold())
    sides = [word for word in words if word in SIDES]
    if len(sides) == 1 and words[0] in SIDES:
        words = [*words[1:], words[0]]
    return "_".join(words)[:MAX_NAME].strip("_")


def label_map(values: NDArray[Any], geometry: Geometry, names: Mapping[int, str], *, what: str) -> LabelMap:
    """Return the label map of stored label values, with organs sorted by name; values of equal names are one organ.

    Args:
        values: Label values, shape (K, R, C), integers of any type; 0 outside of all organs.
        geometry: Their grid.
        names: Name of each value. Values without a name are ignored, and noted.
        what: Name of the label map in messages.

    Raises:
        ImageFileError: A value is not an integer from 0 to 65535, or no value has a name.
    """
    _refuse_unfit(values, what)
    stored = values.astype(np.uint16)
    present = [int(value) for value in np.unique(stored) if value]
    known = {value: name for value, text in names.items() if value in present and (name := organ_name(text))}
    if not known:
        found = f"its values are {_listed(present)}" if present else "all its voxels are 0"
        raise ImageFileError(f"{what}: has no voxel of a named label ({found}, {len(names)} values have a name)")
    organs = tuple(sorted(set(known.values())))
    renumbered = np.zeros(MAX_LABEL + 1, np.uint16)
    for value, name in known.items():
        renumbered[value] = organs.index(name) + 1
    unnamed = [value for value in present if value not in known]
    note = f"labels without a name are ignored: {_listed(unnamed)}" if unnamed else ""
    return LabelMap(Organs(renumbered[stored], organs), geometry, note)


def _refuse_unfit(values: NDArray[Any], what: str) -> None:
    """Raise an error unless all values are label values; slice by slice, which needs little memory."""
    for of_slice in values:
        if not np.isfinite(of_slice).all() or (of_slice != np.rint(of_slice)).any():
            raise ImageFileError(f"{what}: has values that are not integers; expected a label map, not an image")
        low, high = of_slice.min(), of_slice.max()
        if low < 0 or high > MAX_LABEL:
            raise ImageFileError(
                f"{what}: has values from {low:g} to {high:g}, expected labels from 0 to {MAX_LABEL}; is it an image?"
            )


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:5]))
    return f"{shown}, and {len(values) - 5} others" if len(values) > 5 else shown
