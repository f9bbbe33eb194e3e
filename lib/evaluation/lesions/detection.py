"""Real lesions found and missed by a synthetic PET, lesions it fabricates, and the free-response curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.evaluation.lesions.components import Lesion, Lesions, fixed_lesions
from lib.types import BoolArray, FloatArray, NamedNumbers

# Of the synthetic PET in the free-response curve, SUV. Below 1.5, normal tissue merges into one component.
CURVE_THRESHOLDS_SUV = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Detection:
    """Lesions of a synthetic PET against the real ones.

    Attributes:
        found: Real lesions that share a voxel with a synthetic one.
        missed: The other real lesions.
        fabricated: Synthetic lesions that share no voxel with a real one.
    """

    found: tuple[Lesion, ...]
    missed: tuple[Lesion, ...]
    fabricated: tuple[Lesion, ...]

    @property
    def sensitivity(self) -> float:
        """Share of the real lesions that are found; NaN without real ones."""
        real = len(self.found) + len(self.missed)
        return len(self.found) / real if real else math.nan

    def metrics(self, definition: str) -> dict[str, float]:
        """Return the metrics by name, see `LESION_METRICS`."""
        return {
            f"lesion_sensitivity_{definition}": self.sensitivity,
            f"lesions_found_{definition}": len(self.found),
            f"lesions_missed_{definition}": len(self.missed),
            f"lesions_fabricated_{definition}": len(self.fabricated),
            f"lesions_fabricated_{definition}_ml": sum(lesion.volume_ml for lesion in self.fabricated),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the lesions, largest first, as plain values."""
        return {
            name: [lesion.as_json() for lesion in sorted(lesions, key=lambda lesion: -lesion.volume_ml)]
            for name, lesions in vars(self).items()
        }


@dataclass(frozen=True)
class OperatingPoint:
    """Number of real lesions found and of lesions fabricated at one threshold of the synthetic PET."""

    threshold_suv: float
    found: int
    fabricated: int


@dataclass(frozen=True)
class CurvePoint(NamedNumbers):
    """A point of the free-response curve over patients.

    Attributes:
        threshold_suv: Of the synthetic PET; the real lesions are fixed.
        sensitivity: Share of all real lesions that are found; NaN without real ones.
        fabricated_per_patient: Mean number of fabricated lesions; NaN without patients.
    """

    threshold_suv: float
    sensitivity: float
    fabricated_per_patient: float


def match_lesions(real: Lesions, synthetic: Lesions, *, also_real: Lesions | None = None) -> Detection:
    """Return which lesions are found, missed and fabricated.

    Args:
        real, synthetic: On one grid.
        also_real: Further real lesions, such as organs: a synthetic lesion on one of them is not fabricated, while none
            of them can be missed.
    """
    found = set(np.unique(real.labels[synthetic.labels > 0]).tolist())
    there = real.labels > 0 if also_real is None else (real.labels > 0) | (also_real.labels > 0)
    true = set(np.unique(synthetic.labels[there]).tolist())
    return Detection(
        found=_numbered_in(real, found, is_in=True),
        missed=_numbered_in(real, found, is_in=False),
        fabricated=_numbered_in(synthetic, true, is_in=False),
    )


def free_response(
    synthetic_suv: FloatArray, inside: BoolArray, real: Lesions, *, voxel_ml: float
) -> tuple[OperatingPoint, ...]:
    """Return the points of the free-response curve: fixed real lesions, a varying threshold of the synthetic PET."""
    points = []
    for threshold_suv in CURVE_THRESHOLDS_SUV:
        synthetic = fixed_lesions(synthetic_suv, inside, threshold_suv=threshold_suv, voxel_ml=voxel_ml)
        detection = match_lesions(real, synthetic)
        points.append(OperatingPoint(threshold_suv, len(detection.found), len(detection.fabricated)))
    return tuple(points)


def _numbered_in(lesions: Lesions, numbers: set[int], *, is_in: bool) -> tuple[Lesion, ...]:
    return tuple(lesion for n, lesion in enumerate(lesions.lesions, start=1) if (n in numbers) == is_in)


def pooled_curve(patients: Sequence[Sequence[tuple[int, Sequence[OperatingPoint]]]]) -> tuple[CurvePoint, ...]:
    """Return the free-response curve over patients; pairs of one patient count as their mean.

    Args:
        patients: Of each pair of each patient, the number of real lesions and the operating points.
    """
    real = sum(float(np.mean([count for count, _ in pairs])) for pairs in patients)
    curve = []
    for place, threshold_suv in enumerate(CURVE_THRESHOLDS_SUV):
        found, fabricated = (
            [float(np.mean([getattr(points[place], name) for _, points in pairs])) for pairs in patients]
            for name in ("found", "fabricated")
        )
        sensitivity = sum(found) / real if real else math.nan
        curve.append(CurvePoint(threshold_suv, sensitivity, sum(fabricated) / len(patients) if patients else math.nan))
    return tuple(curve)
