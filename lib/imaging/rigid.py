"""A rigid transform between two frames of reference, with the quality of its registration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.imaging.geometry import Geometry
from lib.imaging.volume import Volume


@dataclass(frozen=True)
class RigidRegistration:
    """The rigid registration of a PET to a CT.

    Attributes:
        matrix: Shape (4, 4); maps LPS mm of the PET's frame to LPS mm of the CT's.
        translation_mm: Translation of the PET's centre (x, y, z).
        rotation_deg: Angle of rotation, about any axis.
        information_before: Mutual information at the headers' coordinates, in nats; None if the two do not overlap.
        information_after: Mutual information after registration.
        slack_mm: How far the PET could be moved along an axis and fit nearly as well; large for a limb, which looks
            alike along its length.
    """

    matrix: tuple[tuple[float, ...], ...]
    translation_mm: tuple[float, float, float]
    rotation_deg: float
    information_before: float | None
    information_after: float
    slack_mm: float

    def move(self, volume: Volume) -> Volume:
        """Return the PET in the CT's frame: the same voxels at other positions."""
        return Volume(volume.array, self.move_geometry(volume.geometry), volume.unit)

    def move_geometry(self, geometry: Geometry) -> Geometry:
        """Return a geometry of the PET's frame in the CT's frame."""
        return Geometry(geometry.shape, np.asarray(self.matrix) @ geometry.affine)
