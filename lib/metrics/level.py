"""What is left of an error once a patient's overall level is right: the part that is not a matter of one factor."""

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
    """A synthetic PET times the one factor that makes its MAE smallest.

    Attributes:
        best_factor: At least 0; NaN where every factor gives the same, as for a PET of zeros.
        mae_suv_body_rescaled, psnr_db_body_rescaled: Left after it. The factor is MAE's, so the PSNR may fall.
    """

    best_factor: float
    mae_suv_body_rescaled: float
    psnr_db_body_rescaled: float


def rescale_best(synthetic_suv: FloatArray, real_suv: FloatArray) -> Rescaled:
    """Return the best factor of a patient's voxels, and what error it leaves; all NaN where there are none.

    The factor is found on the real PET: nobody has it beforehand. It tells how much of an error is the patient's
    overall uptake, which depends on fasting, waiting time and metabolism and which a CT does not show.

    Formula: sum |f s - r| = sum |s| |f - r/s| over the voxels where s is not 0, plus what no f changes. A sum of
    weighted distances is smallest at the weighted median, here of r/s under the weights |s|; being convex in f, at 0
    where that lies below.

    Args:
        synthetic_suv, real_suv: SUVbw of the same voxels, (N,).

    Raises:
        InputError: Shapes that differ.
    """
    if synthetic_suv.shape != real_suv.shape or real_suv.ndim != 1:
        raise InputError(f"synthetic voxels {synthetic_suv.shape}, real {real_suv.shape}; expected one (N,)")
    if real_suv.size == 0:
        return Rescaled(math.nan, math.nan, math.nan)
    synthetic, real = synthetic_suv.astype(np.float64), real_suv.astype(np.float64)
    factor = _weighted_median_ratio(synthetic, real)
    left = (synthetic if math.isnan(factor) else factor * synthetic) - real
    return Rescaled(factor, float(np.abs(left).mean()), psnr_db(float(np.square(left).mean())))


def _weighted_median_ratio(synthetic: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """Return the weighted median of real / synthetic, weights |synthetic|, at least 0; NaN without a weight."""
    shown = synthetic != 0
    weights = np.abs(synthetic[shown])
    if not weights.size:
        return math.nan
    ratios = real[shown] / synthetic[shown]
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return max(0.0, float(ratios[order][np.searchsorted(reached, reached[-1] / 2)]))
