"""Organs: the mean SUV of each, and the baseline `organ_median`, the training patients' median SUV of each organ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.errors import InputError
from lib.imaging.label_map import Organs
from lib.metrics.baselines import MAX_SUV, SUV_BINS, SUV_STEP, median_of_counts
from lib.types import BoolArray, FloatArray

MIN_VOXELS = 30  # of an organ, on the network's grid; below, one voxel of its edge changes the mean by several percent


@dataclass(frozen=True, eq=False)
class OrganSample:
    """One volume: SUVbw, measured voxels of the body, (K, R, C) each, and its organs."""

    suv_bw: FloatArray
    body: BoolArray
    organs: Organs

    def __post_init__(self) -> None:
        if not self.suv_bw.shape == self.body.shape == self.organs.labels.shape:
            raise InputError(
                f"PET {self.suv_bw.shape}, body {self.body.shape} and organs {self.organs.labels.shape} must have the "
                "same shape"
            )


@dataclass(frozen=True)
class OrganBaseline:
    """The median SUVbw of each organ over the voxels of the training patients.

    Attributes:
        suv_by_organ: By the organ's name.
        volumes_by_organ: Number of volumes that have the organ.
    """

    suv_by_organ: Mapping[str, float]
    volumes_by_organ: Mapping[str, int]

    def predict(self, other_suv: FloatArray, organs: Organs, body: BoolArray) -> FloatArray:
        """Return the baseline's SUVbw, (K, R, C), 0 outside the body.

        Args:
            other_suv: SUVbw outside of organs, and in organs that no training patient has, (K, R, C).
            organs: Of the CT.
            body: Body mask, (K, R, C).
        """
        medians = np.array([np.nan, *(self.suv_by_organ.get(name, np.nan) for name in organs.names)], np.float32)
        suv_bw = np.empty(other_suv.shape, np.float32)
        for k, labels in enumerate(organs.labels):  # an index takes 8 bytes per voxel
            of_organ = medians[labels]
            suv_bw[k] = np.where(body[k], np.where(np.isnan(of_organ), other_suv[k], of_organ), 0)
        return suv_bw

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, for a model card; SUV to four decimals."""
        return {
            "suv_by_organ": {name: round(suv, 4) for name, suv in self.suv_by_organ.items()},
            "volumes_by_organ": dict(self.volumes_by_organ),
        }

    @classmethod
    def from_json(cls, card: Mapping[str, Any]) -> OrganBaseline:
        """Return the baseline from the output of `to_json`.

        Raises:
            InputError: Keys are missing or unknown, or a value is not a finite number.
        """
        if set(card) != set(cls.__dataclass_fields__):
            raise InputError(f"organ baseline: found {sorted(card)}, expected {sorted(cls.__dataclass_fields__)}")
        try:
            suv_by_organ = {str(name): float(suv) for name, suv in card["suv_by_organ"].items()}
            volumes_by_organ = {str(name): int(count) for name, count in card["volumes_by_organ"].items()}
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"organ baseline: not numbers by organ ({error})") from error
        if not np.isfinite([*suv_by_organ.values()]).all():
            raise InputError("organ baseline: expected finite numbers")
        return cls(suv_by_organ, volumes_by_organ)


def fit_organ_baseline(samples: Iterable[OrganSample]) -> OrganBaseline | None:
    """Fit the baseline on volumes, one at a time, in memory for the organs only; return None without any organ.

    Only measured voxels inside the body are used, of organs with at least `MIN_VOXELS` of them.
    """
    counts: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
    volumes: dict[str, int] = {}
    for sample in samples:
        inside = sample.body & np.isfinite(sample.suv_bw) & (sample.organs.labels > 0)
        labels = sample.organs.labels[inside]
        suv_bin = np.rint(np.clip(sample.suv_bw[inside], 0, MAX_SUV) / SUV_STEP).astype(np.int64)
        for number in np.flatnonzero(np.bincount(labels, minlength=1) >= MIN_VOXELS):
            name = sample.organs.names[number - 1]
            of_organ = np.bincount(suv_bin[labels == number], minlength=SUV_BINS)
            counts[name] = counts.get(name, 0) + of_organ
            volumes[name] = volumes.get(name, 0) + 1
    if not counts:
        return None
    return OrganBaseline(
        {name: round(median_of_counts(counts[name]), 4) for name in sorted(counts)},
        {name: volumes[name] for name in sorted(volumes)},
    )


def organ_means(
    all_suv: Mapping[str, FloatArray], organs: Organs, body: BoolArray
) -> dict[str, tuple[int, dict[str, float]]]:
    """Return the number of voxels and the mean SUV by method of each organ with at least `MIN_VOXELS` voxels.

    Args:
        all_suv: SUVbw by method, (K, R, C) each.
        organs: Of the same grid.
        body: Measured voxels of the body, (K, R, C); others are not counted.
    """
    labels = np.where(body, organs.labels, 0).ravel()
    counts = np.bincount(labels, minlength=len(organs.names) + 1)
    sums = {
        method: np.bincount(labels, weights=suv_bw.ravel(), minlength=len(counts)) for method, suv_bw in all_suv.items()
    }
    return {
        name: (int(counts[number]), {method: float(of[number] / counts[number]) for method, of in sums.items()})
        for number, name in enumerate(organs.names, start=1)
        if counts[number] >= MIN_VOXELS
    }
