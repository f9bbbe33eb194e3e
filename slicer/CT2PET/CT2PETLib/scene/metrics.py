"""Figures of a synthetic PET beside the real one; numpy alone, so that a reader can check them.

With s and r the SUV of the n voxels counted:

    MAE          mean |s - r|                   SUV
    RMSE         sqrt(mean (s - r)^2)           SUV
    PSNR         20 log10(10 / RMSE)            dB, with a fixed range of 0 to 10 SUV as the server's
    bias         mean (s - r)                   SUV, above 0: drawn too hot
    correlation  sum (s - s')(r - r') / sqrt(sum (s - s')^2 sum (r - r')^2), s', r' the means (Pearson's)

Counted are voxels whose slice was synthesised and where the real PET was measured, in the body, and in the body where
the real PET is above a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RANGE_SUV = 10.0
SCATTER_POINTS = 4000
MIN_VOXELS = 10  # of fewer, no figure is worth a line


@dataclass(frozen=True)
class Figures:
    """A row of the table.

    Attributes:
        region: Which voxels were counted, in words.
        voxels: How many.
        mae_suv, rmse_suv, psnr_db, bias_suv, correlation: As in the module's docstring; NaN where undefined.
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
    """SUV in a segment of one volume: voxels, volume [mL], largest, mean and spread [SUV]."""

    region: str
    volume_ml: float
    suv_max: float
    suv_mean: float
    suv_sd: float


def figures(synthetic_suv: np.ndarray, real_suv: np.ndarray, where: np.ndarray, *, region: str) -> Figures:
    """Return the figures over the voxels of `where`; voxels without a number in either are left out."""
    counted = where & np.isfinite(synthetic_suv) & np.isfinite(real_suv)
    s, r = synthetic_suv[counted].astype(np.float64), real_suv[counted].astype(np.float64)
    if s.size < MIN_VOXELS:
        nan = float("nan")
        return Figures(region, int(s.size), nan, nan, nan, nan, nan)
    off = s - r
    mse = float(np.mean(off**2))
    psnr = float("inf") if mse == 0 else 10 * float(np.log10(RANGE_SUV**2 / mse))
    return Figures(
        region, int(s.size), float(np.mean(np.abs(off))), mse**0.5, psnr, float(off.mean()), correlation(s, r)
    )


def correlation(s: np.ndarray, r: np.ndarray) -> float:
    """Return Pearson's correlation; NaN where one of them is constant."""
    ds, dr = s - s.mean(), r - r.mean()
    norm = float(np.sqrt((ds**2).sum() * (dr**2).sum()))
    return float((ds * dr).sum() / norm) if norm > 0 else float("nan")


def uptake(suv: np.ndarray, inside: np.ndarray, *, voxel_ml: float, region: str) -> Uptake:
    """Return volume, SUVmax, SUVmean and standard deviation inside a segment; NaN of an empty one."""
    counted = inside & np.isfinite(suv)
    values = suv[counted].astype(np.float64)
    if not values.size:
        return Uptake(region, 0.0, float("nan"), float("nan"), float("nan"))
    return Uptake(region, values.size * voxel_ml, float(values.max()), float(values.mean()), float(values.std()))


def scatter_sample(synthetic_suv: np.ndarray, real_suv: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return SUV pairs (real, synthetic) of voxels spread evenly over `where`, at most `SCATTER_POINTS`."""
    counted = np.flatnonzero((where & np.isfinite(synthetic_suv) & np.isfinite(real_suv)).ravel())
    if counted.size > SCATTER_POINTS:
        counted = counted[np.linspace(0, counted.size - 1, SCATTER_POINTS).astype(int)]
    return real_suv.ravel()[counted], synthetic_suv.ravel()[counted]
