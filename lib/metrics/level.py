"""The error that remains after each patient's synthetic PET is rescaled by its optimal factor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.metrics.image import psnr_db
from lib.types import FloatArray, NamedNumbers


@dataclass(frozen=True)
class Rescaled(NamedNumbers):
    """The metrics of a synthetic PET multiplied by the factor that minimises its MAE.

    Attributes:
        best_factor: At least 0; NaN where every factor gives the same MAE, as for a PET of zeros.
        mae_suv_body_rescaled, psnr_db_body_rescaled: After rescaling. The factor minimises MAE, so PSNR may fall.
    """

    best_factor: float
    mae_suv_body_rescaled: float
    psnr_db_body_rescaled: float


def rescale_best(synthetic_suv: FloatArray, real_suv: FloatArray) -> Rescaled:
    """Return the optimal factor of a patient's voxels and the remaining error; all NaN without voxels.

    The factor is computed from the real PET, so it is not available for prediction. It shows how much of the error is
    the patient's overall uptake, which depends on fasting, uptake time and metabolism and is not visible in a CT.

    Formula: sum |f s - r| = sum |s| |f - r/s| over the voxels where s is not 0, plus a constant. The weighted median
    minimises a sum of weighted distances, here of r/s with weights |s|; the sum is convex in f, so that 0 is the
    minimum for f >= 0 where the median is negative.

    Args:
        synthetic_suv, real_suv: SUVbw of the same voxels, (N,).

    Raises:
        InputError: The shapes differ.
    """
    if synthetic_suv.shape != real_suv.shape or real_suv.ndim != 1:
        raise InputError(f"synthetic voxels {synthetic_suv.shape}, real {real_suv.shape}; expected one shape (N,)")
    if real_suv.size == 0:
        return Rescaled(math.nan, math.nan, math.nan)
    synthetic, real = synthetic_suv.astype(np.float64), real_suv.astype(np.float64)
    factor = _weighted_median_ratio(synthetic, real)
    residual = (synthetic if math.isnan(factor) else factor * synthetic) - real
    return Rescaled(factor, float(np.abs(residual).mean()), psnr_db(float(np.square(residual).mean())))


def _weighted_median_ratio(synthetic: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the weighted median of real / synthetic, weights |synthetic|, at least 0; NaN for zeros only."""
    nonzero = synthetic != 0
    weights = np.abs(synthetic[nonzero])
    if not weights.size:
        return math.nan
    ratios = real[nonzero] / synthetic[nonzero]
    order = np.argsort(ratios)
    cumulative = np.cumsum(weights[order])
    return max(0.0, float(ratios[order][np.searchsorted(cumulative, cumulative[-1] / 2)]))
