"""Registration of the PET of a pair to its CT, with the quality of fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.dicom.scan.scan import ScannedSeries
from lib.errors import PairingError
from lib.imaging.rigid import RigidRegistration
from lib.pairing.slice_pairs import SliceMatch, match_slices


@dataclass(frozen=True)
class Registered:
    """An accepted registration.

    Attributes:
        movement: Transform of the PET to the CT's frame of reference.
        outline, coverage: Of the registered pair, see `quality_checks/plausibility.py`; None if not measured.
    """

    movement: RigidRegistration
    outline: float | None
    coverage: float | None

    @property
    def quality(self) -> dict[str, float | None]:
        """Quality of fit: mutual information before and after in nats, outline and coverage 0 to 1, slack in mm."""
        return {
            "information_before": self.movement.information_before,
            "information_after": self.movement.information_after,
            "outline": self.outline,
            "coverage": self.coverage,
            "slack_mm": self.movement.slack_mm,
        }

    def match(self, ct: ScannedSeries, pet: ScannedSeries) -> SliceMatch:
        """Return no slice pairs, and the largest distance from the middle of a PET slice to the nearest CT slice.

        Raises:
            PairingError: A series has no geometry.
        """
        if ct.geometry is None or pet.geometry is None:
            raise PairingError(f"CT {ct.series.uid} and PET {pet.series.uid}: only usable series have slice positions")
        slices, rows, columns = pet.geometry.shape
        middles = np.array([((columns - 1) / 2, (rows - 1) / 2, k) for k in range(slices)])
        positions = self.movement.move_geometry(pet.geometry).to_world(middles) @ ct.geometry.normal
        return SliceMatch((), match_slices(ct.positions_mm, positions, tolerance_mm=0).largest_offset_mm)
