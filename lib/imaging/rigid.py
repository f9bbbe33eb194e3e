"""A movement of a rigid body: where a volume lies in another frame of reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume


@dataclass(frozen=True)
class RigidRegistration:
    """How a PET was moved onto a CT.

    Attributes:
        matrix: 4 x 4, takes LPS mm of the PET's frame to LPS mm of the CT's.
        translation_mm: What the movement does to the PET's centre (x, y, z).
        rotation_deg: By how much it turns, around whatever axis.
        information_before: Mutual information of the two as their coordinates are, nats; None where they do not meet.
        information_after: Of the two as registered.
        slack_mm: How far the PET could lie elsewhere along an axis and fit nearly as well; a limb is much alike along
            its length.
    """

    matrix: tuple[tuple[float, ...], ...]
    translation_mm: tuple[float, float, float]
    rotation_deg: float
    information_before: float | None
    information_after: float
    slack_mm: float

    def move(self, volume: Volume) -> Volume:
        """Return the PET where it lies in the CT's frame: the same voxels in another place."""
        return Volume(volume.array, self.move_geometry(volume.geometry), volume.unit)

    def move_geometry(self, geometry: Geometry) -> Geometry:
        """Return where a grid of the PET's frame lies in the CT's."""
        return Geometry(geometry.shape, np.asarray(self.matrix) @ geometry.affine)
