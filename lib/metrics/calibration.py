"""The calibration curve of a model: the absolute error to expect at a synthetic SUV.

The best predictor of a voxel's error is its own synthetic SUV (docs/decisions/0009-uncertainty.md). The curve maps it
to the mean absolute error, is non-decreasing, and is fitted on patients that the model was not trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.types import BoolArray, FloatArray

PREDICTOR = "synthetic SUV"
SUV_STEP, MAX_SUV = 0.02, 50.0  # higher SUVs are counted in the last step
MIN_SHARE = 0.005  # of all voxels, for each point before the curve is made monotone; chosen on five sarcoma patients


@dataclass(frozen=True, eq=False)
class CalibrationSample:
    """A synthetic and a real PET, SUVbw, and the body mask in which they are compared, each (K, R, C)."""

    synthetic_suv: FloatArray
    real_suv: FloatArray
    body: BoolArray

    def __post_init__(self) -> None:
        if not self.synthetic_suv.shape == self.real_suv.shape == self.body.shape:
            raise InputError(
                f"synthetic PET {self.synthetic_suv.shape}, real PET {self.real_suv.shape} and body {self.body.shape} "
                "must have the same shape"
            )


@dataclass(frozen=True, eq=False)
class Calibration:
    """Expected absolute error by synthetic SUV: linear between the points, constant beyond the first and the last.

    Attributes:
        suv_bw: Synthetic SUV of the points, increasing.
        error_suv: Mean absolute error there, SUV, non-decreasing.
        volumes: Number of volumes that it was fitted on.
    """

    suv_bw: NDArray[np.float64]
    error_suv: NDArray[np.float64]
    volumes: int

    def __post_init__(self) -> None:
        if not len(self.suv_bw) == len(self.error_suv) > 0:
            raise InputError(f"calibration: {len(self.error_suv)} errors for {len(self.suv_bw)} SUVs")
        if not (np.diff(self.suv_bw) > 0).all() or not (np.diff(self.error_suv) >= 0).all() or self.error_suv[0] < 0:
            raise InputError("calibration: SUVs must be increasing, errors non-negative and non-decreasing")

    def expected_error_suv(self, synthetic_suv: FloatArray) -> FloatArray:
        """Return the absolute error to expect of each voxel of a synthetic PET, SUV, same shape, float32."""
        return np.interp(synthetic_suv, self.suv_bw, self.error_suv).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists, for a model card."""
        return {
            "predictor": PREDICTOR,
            "suv_bw": self.suv_bw.tolist(),
            "error_suv": self.error_suv.tolist(),
            "volumes": self.volumes,
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Calibration:
        """Return the calibration from the output of `to_json`.

        Raises:
            InputError: Keys are missing or unknown, the predictor is another one, or values are not finite numbers.
        """
        names = {"predictor", *cls.__dataclass_fields__}
        if set(card) != names or card["predictor"] != PREDICTOR:
            raise InputError(
                f"calibration of {card.get('predictor')!r} with {sorted(card)}, expected {PREDICTOR!r} with "
                f"{sorted(names)}"
            )
        try:
            suv_bw, error_suv = (np.asarray(card[name], dtype=np.float64) for name in ("suv_bw", "error_suv"))
            volumes = int(card["volumes"])
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"calibration: not numbers ({error})") from error
        if any(array.ndim != 1 or not np.isfinite(array).all() for array in (suv_bw, error_suv)):
            raise InputError("calibration: expected plain lists of finite numbers")
        return cls(suv_bw, error_suv, volumes)


def fit_calibration(samples: Iterable[CalibrationSample]) -> Calibration | None:
    """Fit the calibration on volumes, one at a time, in constant memory; return None without measured body voxels.

    Each volume has the same weight, whatever its size. Voxels are binned by synthetic SUV, sparse bins are merged with
    the next, and the means are made monotone by pooling adjacent violators.
    """
    steps = round(MAX_SUV / SUV_STEP) + 1
    weights, suvs, errors = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    volumes = 0
    for sample in samples:
        measured = sample.body & np.isfinite(sample.real_suv)
        synthetic, real = (x[measured].astype(np.float64) for x in (sample.synthetic_suv, sample.real_suv))
        if not synthetic.size:
            continue
        suv_bin = np.clip(np.floor(synthetic / SUV_STEP), 0, steps - 1).astype(np.int64)
        weights += np.bincount(suv_bin, minlength=steps) / synthetic.size
        suvs += np.bincount(suv_bin, weights=synthetic, minlength=steps) / synthetic.size
        errors += np.bincount(suv_bin, weights=np.abs(synthetic - real), minlength=steps) / synthetic.size
        volumes += 1
    if not volumes:
        return None
    share_below = (np.cumsum(weights) - weights) / volumes  # share of all voxels in lower bins
    group = np.floor(share_below / MIN_SHARE).astype(np.int64)
    merged = np.stack([np.bincount(group, weights=values) for values in (weights, suvs, errors)])
    weights, suvs, errors = merged[:, merged[0] > 0]
    suv_bw, error_suv = pool_adjacent_violators(suvs / weights, errors / weights, weights)
    return Calibration(suv_bw, error_suv, volumes)


def pool_adjacent_violators(
    positions: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weighted mean position and value of the fewest adjacent groups whose values increase.

    Repeated over each group, the values are the isotonic regression: the non-decreasing sequence that minimises the
    weighted sum of squared distances to `values` (Barlow et al., Statistical Inference under Order Restrictions, 1972).
    """
    pooled: list[tuple[float, float, float]] = []  # position, value, weight
    for position, value, weight in zip(positions.tolist(), values.tolist(), weights.tolist(), strict=True):
        while pooled and pooled[-1][1] >= value:
            previous = pooled.pop()
            total = previous[2] + weight
            position = (previous[0] * previous[2] + position * weight) / total
            value, weight = (previous[1] * previous[2] + value * weight) / total, total
        pooled.append((position, value, weight))
    return np.array([position for position, _, _ in pooled]), np.array([value for _, value, _ in pooled])
