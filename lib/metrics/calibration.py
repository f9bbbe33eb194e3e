"""How large an error to expect of a synthetic PET, and how well that expectation holds.

What predicts a voxel's error best is its own synthetic SUV (docs/decisions/0009-uncertainty.md). So the expectation is
a curve: synthetic SUV in, mean absolute error out, never falling, fitted on patients the model was not trained on.
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
SUV_STEP, HIGHEST_SUV = 0.02, 50.0  # hotter voxels count in the last step
MIN_SHARE = 0.005  # of all voxels, behind each point before it is made monotone: chosen on five sarcoma patients


@dataclass(frozen=True, eq=False)
class CalibrationSample:
    """One volume that was synthesised and measured: SUVbw, and where it is judged, (K, R, C) each."""

    synthetic_suv: FloatArray
    real_suv: FloatArray
    body: BoolArray

    def __post_init__(self) -> None:
        if not self.synthetic_suv.shape == self.real_suv.shape == self.body.shape:
            raise InputError(
                f"synthetic PET {self.synthetic_suv.shape}, real PET {self.real_suv.shape} and body {self.body.shape} "
                "must be one shape"
            )


@dataclass(frozen=True, eq=False)
class Calibration:
    """Expected absolute error by synthetic SUV: straight between the points, level beyond the first and the last.

    Attributes:
        suv_bw: Synthetic SUV of the points, increasing.
        error_suv: Mean absolute error there, SUV, never falling.
        volumes: How many it was fitted on.
    """

    suv_bw: NDArray[np.float64]
    error_suv: NDArray[np.float64]
    volumes: int

    def __post_init__(self) -> None:
        if not len(self.suv_bw) == len(self.error_suv) > 0:
            raise InputError(f"calibration: {len(self.error_suv)} errors for {len(self.suv_bw)} SUVs")
        if not (np.diff(self.suv_bw) > 0).all() or not (np.diff(self.error_suv) >= 0).all() or self.error_suv[0] < 0:
            raise InputError("calibration: SUVs must increase, and errors be at least 0 and never fall")

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
        """Return what `to_json` gave.

        Raises:
            InputError: Keys are missing or unknown, another predictor, or values that are not finite numbers.
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
    """Return the calibration of volumes that come one by one; None where no voxel is judged. Memory stays flat.

    Each volume counts alike, whatever its size. Voxels are binned by synthetic SUV, thin bins joined to the next, and
    the means made monotone by pooling adjacent violators.
    """
    steps = round(HIGHEST_SUV / SUV_STEP) + 1
    weights, suvs, errors = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    volumes = 0
    for sample in samples:
        judged = sample.body & np.isfinite(sample.real_suv)
        synthetic, real = (x[judged].astype(np.float64) for x in (sample.synthetic_suv, sample.real_suv))
        if not synthetic.size:
            continue
        place = np.clip(np.floor(synthetic / SUV_STEP), 0, steps - 1).astype(np.int64)
        weights += np.bincount(place, minlength=steps) / synthetic.size
        suvs += np.bincount(place, weights=synthetic, minlength=steps) / synthetic.size
        errors += np.bincount(place, weights=np.abs(synthetic - real), minlength=steps) / synthetic.size
        volumes += 1
    if not volumes:
        return None
    colder = (np.cumsum(weights) - weights) / volumes  # share of all voxels in the steps below
    group = np.floor(colder / MIN_SHARE).astype(np.int64)
    joined = np.stack([np.bincount(group, weights=of) for of in (weights, suvs, errors)])
    weights, suvs, errors = joined[:, joined[0] > 0]
    suv_bw, error_suv = pool_adjacent_violators(suvs / weights, errors / weights, weights)
    return Calibration(suv_bw, error_suv, volumes)


def pool_adjacent_violators(
    places: NDArray[np.float64], values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weighted mean place and value of the fewest neighbouring groups whose values increase.

    Repeated over each group, the values are the isotonic regression: the never-falling sequence nearest to `values` by
    weighted squares (Barlow et al., Statistical Inference under Order Restrictions, 1972).
    """
    pooled: list[tuple[float, float, float]] = []  # place, value, weight
    for place, value, weight in zip(places.tolist(), values.tolist(), weights.tolist(), strict=True):
        while pooled and pooled[-1][1] >= value:
            before = pooled.pop()
            total = before[2] + weight
            place = (before[0] * before[2] + place * weight) / total
            value, weight = (before[1] * before[2] + value * weight) / total, total
        pooled.append((place, value, weight))
    return np.array([place for place, _, _ in pooled]), np.array([value for _, value, _ in pooled])
