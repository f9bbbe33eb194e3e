"""Shrink a network's PET towards the median SUV at each HU, by a weight chosen on patients it was not trained on.

Where a network is unsure, its uptake is often wrong, and the lookup table is the safer estimate (stacked regression,
Breiman 1996). Only tissue is shrunk: at lower HU the network alone knows lung and bowel from the air around the body.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from lib.metrics.agreement import finite_mean
from lib.metrics.baselines import Baselines
from lib.types import BoolArray, FloatArray

TISSUE_HU = -500.0
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the lookup; beyond one half the network would be the correction

ENSEMBLE_SHARE = 0.5  # of the weight that suits one or two networks: their mean is less unsure (docs/decisions/0046)

WeightRatios = Mapping[float, float]  # by weight, see `error_ratios`


def shrink(synthetic_suv: FloatArray, ct_hu: FloatArray, baselines: Baselines, *, weight: float) -> FloatArray:
    """Return the PET, SUVbw, moved towards the median lookup in tissue; arguments of one shape (K, R, C).

    Args:
        weight: Of the lookup, 0 (unchanged) to 1 (the lookup alone).
    """
    if weight == 0:
        return synthetic_suv
    tissue = ct_hu > TISSUE_HU
    lookup = baselines.predict("hu_median", ct_hu, tissue)
    return np.where(tissue, (1 - weight) * synthetic_suv + weight * lookup, synthetic_suv).astype(np.float32)


def error_ratios(
    synthetic_suv: FloatArray, real_suv: FloatArray, *, ct_hu: FloatArray, body: BoolArray, baselines: Baselines
) -> dict[float, float]:
    """Return, for each of `WEIGHTS`, the log ratio of the error to that of the median lookup; below 0 is better.

    The error is the geometric mean of MAE and RMSE in the body, so that neither is bought with the other. As a ratio,
    it gives a cold patient the same weight as one with a large hot tumour. NaN where the lookup has no error.
    """
    lookup = _log_error(baselines.predict("hu_median", ct_hu, body), real_suv, body)
    return {
        weight: _log_error(shrink(synthetic_suv, ct_hu, baselines, weight=weight), real_suv, body) - lookup
        for weight in WEIGHTS
    }


def best_weight(patients: Iterable[WeightRatios]) -> float:
    """Return the weight with the lowest mean ratio over patients, of equal ones the smallest."""
    means = mean_ratios(patients)
    return min(means, key=lambda weight: (means[weight] if math.isfinite(means[weight]) else math.inf, weight))


def ensemble_weight(weight: float) -> float:
    """Return the weight of the lookup for the mean of all networks, from that for one or two of them."""
    return ENSEMBLE_SHARE * weight


def mean_ratios(patients: Iterable[WeightRatios]) -> dict[float, float]:
    """Return the mean ratio over patients for each weight; NaN without patients."""
    rows = list(patients)
    return {weight: finite_mean(row[weight] for row in rows) for weight in WEIGHTS}


def _log_error(suv_bw: FloatArray, real_suv: FloatArray, body: BoolArray) -> float:
    if not body.any():
        return math.nan
    error = suv_bw[body].astype(np.float64) - real_suv[body]
    mae, rmse = float(np.abs(error).mean()), math.sqrt(float(np.square(error).mean()))
    return (math.log(mae) + math.log(rmse)) / 2 if mae else math.nan
