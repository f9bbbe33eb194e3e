"""Uptake of a tumour, and detection of hot voxels.

SUVs depend on the grid: resampled to another one, the same PET has another SUVmax. So values are comparable only where
synthetic and real PET are on the same grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lib.errors import InputError
from lib.types import BoolArray, FloatArray, NamedNumbers

HOT_SUV = 2.5  # the customary threshold for "more than background" in FDG PET
PEAK_ML = 1.0  # volume of the sphere of SUVpeak: 1 cm3, 12 mm across
PEAK_RADIUS_MM = 10 * (3 * PEAK_ML / (4 * math.pi)) ** (1 / 3)


@dataclass(frozen=True)
class Uptake(NamedNumbers):
    """Uptake of a region; NaN, and 0 mL, where no voxel of it was measured.

    Attributes:
        volume_ml: Of the measured voxels.
        suv_mean, suv_max: Over them, SUVbw.
        suv_peak: Largest mean over a sphere of 1 cm3 with its centre in the region.
    """

    volume_ml: float
    suv_mean: float
    suv_max: float
    suv_peak: float


@dataclass(frozen=True)
class HotVoxels:
    """Counts of voxels above an SUV threshold.

    Attributes:
        real: Above it in the real PET.
        shown: Above it in the synthetic PET.
        found: Above it in both.
    """

    real: int
    shown: int
    found: int

    @property
    def sensitivity(self) -> float:
        """Share of the real hot voxels that are hot in the synthetic PET; NaN without real ones."""
        return self.found / self.real if self.real else math.nan

    @property
    def false_share(self) -> float:
        """Share of the synthetic hot voxels that are not hot in the real PET; NaN without synthetic ones."""
        return 1 - self.found / self.shown if self.shown else math.nan

    @property
    def overlap(self) -> float:
        """Dice coefficient of real and synthetic hot voxels, 0 to 1; NaN without any."""
        return 2 * self.found / (self.real + self.shown) if self.real + self.shown else math.nan


def measure_uptake(
    suv_bw: FloatArray, region: BoolArray, *, spacing_mm: tuple[float, float, float], measured: BoolArray | None = None
) -> Uptake:
    """Return the uptake of a region.

    Args:
        suv_bw: SUVbw, (K, R, C).
        region: The tumour, (K, R, C).
        spacing_mm: Between (slices, rows, columns).
        measured: Voxels that the scanner measured, (K, R, C); None for all.

    Raises:
        InputError: The shapes differ.
    """
    measured = np.ones(suv_bw.shape, np.bool_) if measured is None else measured
    if not suv_bw.shape == region.shape == measured.shape or suv_bw.ndim != 3:
        raise InputError(
            f"PET {suv_bw.shape}, region {region.shape} and measured {measured.shape}; expected one shape (K, R, C)"
        )
    counted = region & measured
    if not counted.any():
        return Uptake(0.0, math.nan, math.nan, math.nan)
    suvs = suv_bw[counted]
    return Uptake(
        volume_ml=len(suvs) * math.prod(spacing_mm) / 1000,
        suv_mean=float(suvs.mean(dtype=np.float64)),
        suv_max=float(suvs.max()),
        suv_peak=_peak(suv_bw, counted, measured, spacing_mm),
    )


def hot_voxels(
    synthetic_suv: FloatArray, real_suv: FloatArray, inside: BoolArray, *, threshold_suv: float = HOT_SUV
) -> HotVoxels:
    """Return how many voxels inside a mask exceed a threshold in the real PET, in the synthetic PET, and in both."""
    real, shown = (suv[inside] > threshold_suv for suv in (real_suv, synthetic_suv))
    return HotVoxels(int(real.sum()), int(shown.sum()), int((real & shown).sum()))


def _peak(suv_bw: FloatArray, centres: BoolArray, measured: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Return SUVpeak: the largest mean over the measured voxels in a 1 cm3 sphere around a voxel of `centres`.

    The sphere may extend beyond the region, and is cropped at the border of the volume.

    Source: IBSI reference manual 0.0.1dev, "Global intensity peak" (0F91). PERCIST's SUVpeak is that of a 12 mm sphere
    positioned so as to maximise its mean (Lodge, Chaudhry, Wahl 2012, doi:10.2967/jnumed.111.101733).
    """
    reach = [int(PEAK_RADIUS_MM / step) for step in spacing_mm]
    margin = [(r, r) for r in reach]
    suvs = np.pad(np.where(measured, suv_bw, np.float32(0)), margin)
    weights = np.pad(measured, margin)
    at = [axis + r for axis, r in zip(np.nonzero(centres), reach, strict=True)]
    total: NDArray[np.float64] = np.zeros(len(at[0]))
    count: NDArray[np.int64] = np.zeros(len(at[0]), np.int64)
    for offset in product(*(range(-r, r + 1) for r in reach)):
        if math.dist((0, 0, 0), [step * mm for step, mm in zip(offset, spacing_mm, strict=True)]) <= PEAK_RADIUS_MM:
            shifted = tuple(axis + step for axis, step in zip(at, offset, strict=True))
            total += suvs[shifted]
            count += weights[shifted]
    return float((total / count).max())
