"""The lesions of one pair: what the model, the baselines and external programs find, miss and fabricate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib.evaluation.lesions.components import (
    Lesions,
    contoured_lesions,
    fixed_lesions,
    relative_lesions,
)
from lib.evaluation.lesions.contours import TumourContours, tumour_contours
from lib.evaluation.lesions.detection import Detection, OperatingPoint, free_response, match_lesions
from lib.evaluation.slice_metrics import AlignedVolumes
from lib.metrics.agreement import finite_mean
from lib.metrics.uptake import HOT_SUV
from lib.types import FloatArray, finite_or_none


@dataclass(frozen=True)
class MethodLesions:
    """The lesions of one method's PET.

    Attributes:
        fixed: Lesions above SUV 2.5.
        relative: Lesions by 41 % of the maximum: real ones of each contoured tumour in its region, or without contours
            of each component above SUV 2.5.
        contours: Of each contoured tumour.
        curve: Points of the free-response curve; empty where it was not computed.
    """

    fixed: Detection
    relative: Detection
    contours: tuple[TumourContours, ...]
    curve: tuple[OperatingPoint, ...] = ()

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name, see `LESION_METRICS`; NaN where undefined."""
        values = {**self.fixed.metrics("fixed"), **self.relative.metrics("relative")}
        for definition in ("fixed", "relative"):
            found = [getattr(contours, definition) for contours in self.contours]
            values[f"tumour_dice_{definition}"] = finite_mean(contour.dice for contour in found)
            values[f"tumour_volume_error_{definition}_ml"] = finite_mean(
                contour.synthetic_ml - contour.real_ml for contour in found
            )
        return values

    def as_json(self) -> dict[str, Any]:
        """Return the metrics, each lesion and each tumour's contours as plain values."""
        return {
            **finite_or_none(self.metrics()),
            "fixed": self.fixed.as_json(),
            "relative": self.relative.as_json(),
            "contours": [contours.as_json() for contours in self.contours],
        }


@dataclass(frozen=True, eq=False)
class RealLesions:
    """The lesions of a real PET.

    Attributes:
        fixed: Above SUV 2.5.
        relative: Parts of `fixed` that reach 41 % of its maximum.
        contoured: Of each contoured tumour; None without contours.
    """

    fixed: Lesions
    relative: Lesions
    contoured: Lesions | None


def measure_lesions(
    volumes: AlignedVolumes, predictions: Mapping[str, FloatArray], *, with_curve: tuple[str, ...] = ()
) -> dict[str, MethodLesions]:
    """Return the lesions of each method against those of the real PET.

    Args:
        volumes: Real PET, body and contoured tumours on one grid.
        predictions: SUVbw of each method, (K, R, C).
        with_curve: Methods whose free-response curve is computed.
    """
    voxel_ml = voxel_volume_ml(volumes)
    real = _real_lesions(volumes, voxel_ml)
    return {
        name: _method_lesions(suv_bw, volumes, real, voxel_ml, with_curve=name in with_curve)
        for name, suv_bw in predictions.items()
    }


def measure_fixed_lesions(volumes: AlignedVolumes, predictions: Mapping[str, FloatArray]) -> dict[str, Detection]:
    """Return found, missed and fabricated lesions above SUV 2.5 of each method, SUVbw (K, R, C)."""
    voxel_ml = voxel_volume_ml(volumes)
    real, *synthetic = (
        fixed_lesions(suv_bw, volumes.body, threshold_suv=HOT_SUV, voxel_ml=voxel_ml)
        for suv_bw in (volumes.real_suv, *predictions.values())
    )
    return {name: match_lesions(real, lesions) for name, lesions in zip(predictions, synthetic, strict=True)}


def voxel_volume_ml(volumes: AlignedVolumes) -> float:
    """Return the volume of a voxel."""
    return math.prod(volumes.geometry.spacing_mm) / 1000


def _real_lesions(volumes: AlignedVolumes, voxel_ml: float) -> RealLesions:
    real, body = volumes.real_suv, volumes.body
    fixed = fixed_lesions(real, body, threshold_suv=HOT_SUV, voxel_ml=voxel_ml)
    regions = [region & body for _, region in volumes.regions if (region & body).any()]
    return RealLesions(
        fixed,
        relative_lesions(fixed, real, voxel_ml=voxel_ml),
        contoured_lesions(real, regions, voxel_ml=voxel_ml) if regions else None,
    )


def _method_lesions(
    suv_bw: FloatArray, volumes: AlignedVolumes, real: RealLesions, voxel_ml: float, *, with_curve: bool
) -> MethodLesions:
    body = volumes.body
    fixed = fixed_lesions(suv_bw, body, threshold_suv=HOT_SUV, voxel_ml=voxel_ml)
    relative = relative_lesions(fixed, suv_bw, voxel_ml=voxel_ml)
    contours = (
        tumour_contours(name, region & body, synthetic_suv=suv_bw, real_suv=volumes.real_suv, voxel_ml=voxel_ml)
        for name, region in volumes.regions
    )
    return MethodLesions(
        fixed=match_lesions(real.fixed, fixed),
        relative=match_lesions(real.relative, relative)
        if real.contoured is None
        else match_lesions(real.contoured, relative, also_real=real.relative),
        contours=tuple(contours),
        curve=free_response(suv_bw, body, real.fixed, voxel_ml=voxel_ml) if with_curve else (),
    )
