"""A volume: voxel values with geometry and unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lib.errors import InputError
from lib.imaging.geometry import Geometry
from lib.types import FloatArray


class Unit(StrEnum):
    """Unit of voxel values."""

    HU = "HU"  # CT, Hounsfield units
    BQML = "BQML"  # PET activity, Bq/mL
    SUV_BW = "SUV_BW"  # PET, body-weight standardised uptake value, g/mL
    UNIT_RANGE = "UNIT_RANGE"  # network input and output, nominally 0..1


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxel values, shape (K, R, C), float32, with their geometry and unit.

    Raises:
        InputError: The shape of the array differs from that of the geometry.
    """

    array: FloatArray
    geometry: Geometry
    unit: Unit

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.geometry.shape:
            raise InputError(
                f"array of shape {tuple(self.array.shape)} does not fit the geometry of shape {self.geometry.shape}"
            )
        if self.array.dtype != np.float32:
            object.__setattr__(self, "array", self.array.astype(np.float32))

    def slab(self, slices: slice) -> Volume:
        """Return a range of slices as a volume: a view of the array, with its geometry."""
        geometry = self.geometry.slab(slices)
        start = slices.indices(self.geometry.shape[0])[0]
        return Volume(self.array[start : start + geometry.shape[0]], geometry, self.unit)
