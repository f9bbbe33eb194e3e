"""Agreement of tumour contours that are drawn by threshold in the synthetic and in the real PET."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lib.evaluation.lesions.components import relative_mask
from lib.metrics.uptake import HOT_SUV
from lib.types import BoolArray, FloatArray, NamedNumbers


@dataclass(frozen=True)
class ContourAgreement(NamedNumbers):
    """Two contours of one tumour.

    Attributes:
        real_ml, synthetic_ml: Their volumes.
        dice: Dice coefficient, 0 to 1; NaN where both are empty.
    """

    real_ml: float
    synthetic_ml: float
    dice: float


@dataclass(frozen=True)
class TumourContours:
    """The contours of one tumour region in the synthetic and the real PET, by definition.

    Attributes:
        region: Name of the region.
        fixed: Voxels of the region above SUV 2.5.
        relative: Voxels that reach 41 % of the region's maximum, each PET by its own maximum. A flat PET fills the
            region, so that its Dice is that of a guess.
    """

    region: str
    fixed: ContourAgreement
    relative: ContourAgreement

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"region": self.region, "fixed": self.fixed.as_json(), "relative": self.relative.as_json()}


def tumour_contours(
    name: str, region: BoolArray, *, synthetic_suv: FloatArray, real_suv: FloatArray, voxel_ml: float
) -> TumourContours:
    """Return the contours of one tumour region, (K, R, C), in both PETs, SUVbw (K, R, C)."""
    fixed = (region & (suv > HOT_SUV) for suv in (synthetic_suv, real_suv))
    relative = (relative_mask(suv, region) for suv in (synthetic_suv, real_suv))
    return TumourContours(name, _agreement(*fixed, voxel_ml=voxel_ml), _agreement(*relative, voxel_ml=voxel_ml))


def _agreement(synthetic: BoolArray, real: BoolArray, *, voxel_ml: float) -> ContourAgreement:
    both, either = int((synthetic & real).sum()), int(synthetic.sum()) + int(real.sum())
    dice = 2 * both / either if either else math.nan
    return ContourAgreement(int(real.sum()) * voxel_ml, int(synthetic.sum()) * voxel_ml, dice)
