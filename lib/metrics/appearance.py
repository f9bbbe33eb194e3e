"""What a reader sees at once in a PET: its projections, jumps from slice to slice, and false hot volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lib.errors import InputError
from lib.metrics.ssim import DATA_RANGE_SUV
from lib.metrics.uptake import hot_voxels
from lib.types import BoolArray, FloatArray, NamedNumbers

VIEWS = {"coronal": 1, "sagittal": 2}  # the axis that is projected, of (slices, rows, columns) in canonical order
ROUGHNESS_STEP_MM = 4.0  # a PET's usual slice distance; between closer slices a resampled PET is smooth


@dataclass(frozen=True)
class ProjectionMetrics(NamedNumbers):
    """Agreement of a synthetic and a real maximum intensity projection; NaN where undefined."""

    correlation: float
    mae_suv: float


@dataclass(frozen=True)
class AppearanceMetrics(NamedNumbers):
    """What a reader sees at once, of one volume; NaN where undefined.

    Attributes:
        mip_correlation, mip_mae_suv: Agreement of the maximum intensity projections, mean of both views.
        roughness_suv: Of the synthetic PET along z, see `roughness_suv`.
        roughness_ratio: Roughness along z, synthetic / real; 1 is best.
        hot_volume_ratio: Volume above SUV 2.5, synthetic / real. Over patients, the ratio of the sums below says more
            than the mean of ratios, which a patient with little uptake decides.
        hot_found_ml, hot_missed_ml, hot_false_ml: Volume above SUV 2.5 in both PETs, in the real one only, and in the
            synthetic one only.
    """

    mip_correlation: float
    mip_mae_suv: float
    mip_coronal_correlation: float
    mip_coronal_mae_suv: float
    mip_sagittal_correlation: float
    mip_sagittal_mae_suv: float
    roughness_suv: float
    roughness_ratio: float
    hot_volume_ratio: float
    hot_found_ml: float
    hot_missed_ml: float
    hot_false_ml: float


def measure_appearance(
    synthetic_suv: FloatArray, real_suv: FloatArray, body: BoolArray, *, spacing_mm: tuple[float, float, float]
) -> AppearanceMetrics:
    """Return what a reader sees at once.

    Args:
        synthetic_suv, real_suv: SUVbw, (K, R, C), in canonical order.
        body: Inside the patient and measured, (K, R, C).
        spacing_mm: Between (slices, rows, columns).

    Raises:
        InputError: The shapes differ.
    """
    views = compare_projections(synthetic_suv, real_suv, body)
    rough, real_rough = (roughness_suv(suv, body, slice_mm=spacing_mm[0]) for suv in (synthetic_suv, real_suv))
    hot, voxel_ml = hot_voxels(synthetic_suv, real_suv, body), math.prod(spacing_mm) / 1000
    return AppearanceMetrics(
        mip_correlation=sum(view.correlation for view in views.values()) / len(VIEWS),
        mip_mae_suv=sum(view.mae_suv for view in views.values()) / len(VIEWS),
        mip_coronal_correlation=views["coronal"].correlation,
        mip_coronal_mae_suv=views["coronal"].mae_suv,
        mip_sagittal_correlation=views["sagittal"].correlation,
        mip_sagittal_mae_suv=views["sagittal"].mae_suv,
        roughness_suv=rough,
        roughness_ratio=rough / real_rough if real_rough else math.nan,
        hot_volume_ratio=hot.shown / hot.real if hot.real else math.nan,
        hot_found_ml=hot.found * voxel_ml,
        hot_missed_ml=(hot.real - hot.found) * voxel_ml,
        hot_false_ml=(hot.shown - hot.found) * voxel_ml,
    )


def compare_projections(
    synthetic_suv: FloatArray, real_suv: FloatArray, body: BoolArray
) -> dict[str, ProjectionMetrics]:
    """Return the agreement of the maximum intensity projections by view, over the pixels that show the body.

    Projections are clipped to 0 to 10 SUV, as on a reader's grey scale: otherwise the bladder alone decides.

    Args:
        synthetic_suv, real_suv: SUVbw, (K, R, C), in canonical order.
        body: Inside the patient and measured, (K, R, C); voxels outside are not projected.

    Raises:
        InputError: The shapes differ.
    """
    if not synthetic_suv.shape == real_suv.shape == body.shape or body.ndim != 3:
        raise InputError(
            f"synthetic PET {synthetic_suv.shape}, real {real_suv.shape} and body {body.shape}; expected one shape "
            "(K, R, C)"
        )
    metrics = {}
    for view, axis in VIEWS.items():
        shown = body.any(axis=axis)
        synthetic, real = (
            suv.max(axis=axis, where=body, initial=0)[shown].clip(0, DATA_RANGE_SUV).astype(np.float64)
            for suv in (synthetic_suv, real_suv)
        )
        flat = not shown.any() or np.ptp(synthetic) == 0 or np.ptp(real) == 0
        metrics[view] = ProjectionMetrics(
            correlation=math.nan if flat else float(np.corrcoef(synthetic, real)[0, 1]),
            mae_suv=float(np.abs(synthetic - real).mean()) if shown.any() else math.nan,
        )
    return metrics


def roughness_suv(suv_bw: FloatArray, body: BoolArray, *, slice_mm: float) -> float:
    """Return the roughness along z, SUV: the mean absolute second difference of slices about 4 mm apart.

    A uniform or linear uptake has 0; independent noise of standard deviation s has about 2 s. NaN where no voxel of the
    body has two such neighbours inside the body.
    """
    step = max(1, round(ROUGHNESS_STEP_MM / slice_mm))
    total, count = 0.0, 0
    for k in range(step, len(suv_bw) - step):
        inside = body[k - step] & body[k] & body[k + step]
        below, centre, above = (suv_bw[index][inside] for index in (k - step, k, k + step))
        total += float(np.abs(below - 2 * centre + above).sum(dtype=np.float64))
        count += len(centre)
    return total / count if count else math.nan
