"""Metrics of a synthetic PET against the real one, with numpy alone.

For the synthetic SUV s and the real SUV r of the evaluated voxels:

    MAE          mean |s - r|                   SUV
    RMSE         sqrt(mean (s - r)^2)           SUV
    PSNR         20 log10(10 / RMSE)            dB, with a fixed range of 0 to 10 SUV as on the server
    bias         mean (s - r)                   SUV, above 0: overestimated
    correlation  sum (s - s')(r - r') / sqrt(sum (s - s')^2 sum (r - r')^2), s', r' the means (Pearson's)

Evaluated are voxels of synthesised slices where the real PET was measured: those of the body, and those of the body
where the real PET is above a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

RANGE_SUV = 10.0
SCATTER_POINTS = 4000
MIN_VOXELS = 10  # fewer give no meaningful metric


@dataclass(frozen=True)
class RegionMetrics:
    """Metrics of a region.

    Attributes:
        region: Name of the region.
        voxels: Number of evaluated voxels.
        mae_suv, rmse_suv, psnr_db, bias_suv, correlation: See the module's docstring; NaN where undefined.
    """

    region: str
    voxels: int
    mae_suv: float
    rmse_suv: float
    psnr_db: float
    bias_suv: float
    correlation: float


@dataclass(frozen=True)
class Uptake:
    """SUV in a segment: volume [mL], maximum, mean and standard deviation [SUV]."""

    region: str
    volume_ml: float
    suv_max: float
    suv_mean: float
    suv_sd: float
    is_synthetic: bool = False


def region_metrics(
    synthetic_suv: np.ndarray[Any, Any], real_suv: np.ndarray[Any, Any], mask: np.ndarray[Any, Any], *, region: str
) -> RegionMetrics:
    """Return the metrics over the voxels of a mask; voxels that are NaN in either volume are ignored."""
    counted = mask & np.isfinite(synthetic_suv) & np.isfinite(real_suv)
    s, r = synthetic_suv[counted].astype(np.float64), real_suv[counted].astype(np.float64)
    if s.size < MIN_VOXELS:
        nan = float("nan")
        return RegionMetrics(region, int(s.size), nan, nan, nan, nan, nan)
    difference = s - r
    mse = float(np.mean(difference**2))
    psnr = float("inf") if mse == 0 else 10 * float(np.log10(RANGE_SUV**2 / mse))
    mae, bias = float(np.mean(np.abs(difference))), float(difference.mean())
    return RegionMetrics(region, int(s.size), mae, mse**0.5, psnr, bias, correlation(s, r))


def correlation(s: np.ndarray[Any, Any], r: np.ndarray[Any, Any]) -> float:
    """Return Pearson's correlation; NaN if one of the arrays is constant."""
    ds, dr = s - s.mean(), r - r.mean()
    norm = float(np.sqrt((ds**2).sum() * (dr**2).sum()))
    return float((ds * dr).sum() / norm) if norm > 0 else float("nan")


def uptake(suv: np.ndarray[Any, Any], inside: np.ndarray[Any, Any], *, voxel_ml: float, region: str) -> Uptake:
    """Return volume, SUVmax, SUVmean and standard deviation in a segment; NaN for an empty one."""
    counted = inside & np.isfinite(suv)
    values = suv[counted].astype(np.float64)
    if not values.size:
        return Uptake(region, 0.0, float("nan"), float("nan"), float("nan"))
    return Uptake(region, values.size * voxel_ml, float(values.max()), float(values.mean()), float(values.std()))


def scatter_sample(
    synthetic_suv: np.ndarray[Any, Any], real_suv: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return SUV pairs (real, synthetic) of voxels spread evenly over a mask, at most `SCATTER_POINTS`."""
    counted = np.flatnonzero((mask & np.isfinite(synthetic_suv) & np.isfinite(real_suv)).ravel())
    if counted.size > SCATTER_POINTS:
        counted = counted[np.linspace(0, counted.size - 1, SCATTER_POINTS).astype(int)]
    return real_suv.ravel()[counted], synthetic_suv.ravel()[counted]
