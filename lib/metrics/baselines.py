"""Baselines that a useful model must beat: they use nothing of a voxel, or only its HU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.types import BoolArray, FloatArray

BaselineName = Literal["zero", "constant", "hu_mean", "hu_median"]
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
ORGAN_MEDIAN = "organ_median"  # a fifth baseline, where organs were segmented: `lib/metrics/organs.py`

MIN_HU, MAX_HU, HU_STEP = -1024, 1500, 10  # values outside are counted in the outermost bins
SUV_STEP, MAX_SUV = 0.01, 50.0  # medians are exact to half a step; higher SUVs count as 50
HU_BINS = -(-(MAX_HU - MIN_HU) // HU_STEP)
SUV_BINS = round(MAX_SUV / SUV_STEP) + 1


@dataclass(frozen=True, eq=False)
class BaselineSample:
    """One patient: HU, SUVbw (NaN where not measured) and the body, each (K, R, C)."""

    ct_hu: FloatArray
    suv_bw: FloatArray
    body: BoolArray

    def __post_init__(self) -> None:
        if not self.ct_hu.shape == self.suv_bw.shape == self.body.shape:
            raise InputError(
                f"CT {self.ct_hu.shape}, PET {self.suv_bw.shape} and body {self.body.shape} must have the same shape"
            )


@dataclass(frozen=True, eq=False)
class Baselines:
    """Baselines fitted by `fit_baselines`.

    Attributes:
        constant_suv: Median SUVbw inside the bodies.
        hu_bin_edges: HU, one more than the number of bins.
        mean_suv_by_hu, median_suv_by_hu: SUVbw, one value per bin.
    """

    constant_suv: float
    hu_bin_edges: FloatArray
    mean_suv_by_hu: FloatArray
    median_suv_by_hu: FloatArray

    def __post_init__(self) -> None:
        bins = len(self.hu_bin_edges) - 1
        if bins < 1 or not len(self.mean_suv_by_hu) == len(self.median_suv_by_hu) == bins:
            found = f"{len(self.mean_suv_by_hu)} means and {len(self.median_suv_by_hu)} medians"
            raise InputError(f"baselines: {found} for {bins} bins of HU")
        if not (np.diff(self.hu_bin_edges) > 0).all():
            raise InputError("baselines: the edges of the HU bins must be increasing")

    def predict(self, name: BaselineName, ct_hu: FloatArray, body: BoolArray) -> FloatArray:
        """Return one baseline's SUVbw, in the shape of `ct_hu`, 0 outside the body.

        Raises:
            InputError: Unknown baseline.
        """
        if name == "zero":
            return np.zeros(ct_hu.shape, dtype=np.float32)
        if name == "constant":
            return np.where(body, np.float32(self.constant_suv), np.float32(0))
        if name not in BASELINE_NAMES:
            raise InputError(f"unknown baseline {name!r}; expected one of {', '.join(BASELINE_NAMES)}")
        lookup = self.mean_suv_by_hu if name == "hu_mean" else self.median_suv_by_hu
        inner_edges = self.hu_bin_edges[1:-1]  # values outside the outer edges belong to the outer bins
        suv_bw = np.zeros(ct_hu.shape, dtype=np.float32)
        for suv_slice, hu, inside in zip(suv_bw, ct_hu, body, strict=True):  # an index takes 8 bytes per voxel
            suv_slice[inside] = lookup[np.searchsorted(inner_edges, hu[inside], side="right")]
        return suv_bw

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists, for a model card; SUV to four decimals."""
        return {
            "constant_suv": self.constant_suv,
            "hu_bin_edges": self.hu_bin_edges.tolist(),
            "mean_suv_by_hu": [round(x, 4) for x in self.mean_suv_by_hu.tolist()],
            "median_suv_by_hu": [round(x, 4) for x in self.median_suv_by_hu.tolist()],
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> Baselines:
        """Return the baselines from the output of `to_json`.

        Raises:
            InputError: Keys are missing or unknown, or a value is not a number or a list of numbers.
        """
        names = set(cls.__dataclass_fields__)
        if set(card) != names:
            raise InputError(f"baselines: found {sorted(card)}, expected {sorted(names)}")
        try:
            constant_suv = float(card["constant_suv"])
            arrays = {name: np.asarray(card[name], dtype=np.float32) for name in names - {"constant_suv"}}
        except (TypeError, ValueError) as error:
            raise InputError(f"baselines: not numbers ({error})") from error
        if any(array.ndim != 1 or not np.isfinite(array).all() for array in arrays.values()):
            raise InputError("baselines: expected plain lists of finite numbers")
        return cls(constant_suv, **arrays)


def fit_baselines(samples: Iterable[BaselineSample]) -> Baselines:
    """Fit the baselines on patients, one at a time, in constant memory.

    Only measured voxels inside the body are used. An empty HU bin takes the values of the nearest bin that has voxels
    (the lower of two).

    Raises:
        InputError: There are no measured voxels inside a body.
    """
    counts = np.zeros(HU_BINS * SUV_BINS, dtype=np.int64)
    sums = np.zeros(HU_BINS, dtype=np.float64)
    for sample in samples:
        counted = sample.body & np.isfinite(sample.suv_bw)
        ct_hu, suv_bw = sample.ct_hu[counted], sample.suv_bw[counted]
        hu_bin = np.clip(np.floor((ct_hu - MIN_HU) / HU_STEP), 0, HU_BINS - 1).astype(np.int64)
        suv_bin = np.rint(np.clip(suv_bw, 0, MAX_SUV) / SUV_STEP).astype(np.int64)
        counts += np.bincount(hu_bin * SUV_BINS + suv_bin, minlength=counts.size)
        sums += np.bincount(hu_bin, weights=suv_bw, minlength=HU_BINS)
    table = counts.reshape(HU_BINS, SUV_BINS)
    filled = np.flatnonzero(table.any(axis=1))
    if filled.size == 0:
        raise InputError(
            "no voxel inside a body with measured PET, so baselines cannot be fitted; check the CT and PET pairs"
        )
    nearest = filled[np.abs(filled[None, :] - np.arange(HU_BINS)[:, None]).argmin(axis=1)]
    return Baselines(
        constant_suv=round(median_of_counts(table.sum(axis=0)), 4),
        hu_bin_edges=(MIN_HU + HU_STEP * np.arange(HU_BINS + 1)).astype(np.float32),
        mean_suv_by_hu=(sums[nearest] / table.sum(axis=1)[nearest]).round(4).astype(np.float32),
        median_suv_by_hu=np.array([median_of_counts(table[i]) for i in nearest]).round(4).astype(np.float32),
    )


def median_of_counts(counts: NDArray[np.int64]) -> float:
    """Return the median of a histogram over SUV steps; for an even count, the mean of the middle two values."""
    total = int(counts.sum())
    reached = np.cumsum(counts)
    low, high = np.searchsorted(reached, [(total + 1) // 2, total // 2 + 1])
    return float(low + high) / 2 * SUV_STEP
