"""Shrink a network's PET towards the median SUV at each HU, as the card of an older ensemble demands.

Where a network is unsure, its uptake is often wrong, and the lookup table is the safer estimate (stacked regression,
Breiman 1996). The mean of many networks needs no such correction (docs/decisions/0046), so new cards have weight 0.
Only tissue is shrunk: at lower HU the network alone knows lung and bowel from the air around the body.
"""

from __future__ import annotations

import numpy as np

from lib.metrics.baselines import Baselines
from lib.types import FloatArray

TISSUE_HU = -500.0


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
