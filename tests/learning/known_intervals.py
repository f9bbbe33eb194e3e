"""Intervals that can be worked out by hand: on the square-root scale, 0.1 times 1, 2, 3 and 4 around the prediction."""

from __future__ import annotations

from itertools import pairwise

from lib.metrics.conformal.band import LEVELS, Band, required_patients
from lib.metrics.conformal.intervals import KINDS, Intervals
from lib.metrics.conformal.region_samples import VOLUME_EDGES_ML


def known_intervals(patients: int = 20) -> Intervals:
    """The 90 % interval of SUV 4 is (2 - 0.3)^2 to (2 + 0.3)^2, 2.89 to 5.29; levels need their number of patients."""
    factors = tuple(n if patients >= required_patients(level) else None for n, level in enumerate(LEVELS, start=1))
    reached = tuple(None if factor is None else level for factor, level in zip(factors, LEVELS, strict=True))
    sizes = tuple(pairwise(VOLUME_EDGES_ML))

    def band(volume_ml: tuple[float, float] | None) -> Band:
        return Band(patients, (0.0, 9.0), (0.1, 0.1), factors, reached, reached, volume_ml)

    return Intervals(
        patients, {kind: tuple(map(band, sizes)) if kind.startswith("region") else (band(None),) for kind in KINDS}
    )
