"""What a reader of PET looks at: how hot a tumour is, and which hot spots are shown, missed or invented.

SUVs are read on the grid they are given on; on another one the same PET has another SUVmax. So figures are compared
only where synthetic and real PET lie on one grid.
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
    """A region's uptake; all NaN, and 0 mL, where no voxel of it was measured.

    Attributes:
        volume_ml: Of the measured voxels.
        suv_mean, suv_max: Over them, SUVbw.
        suv_peak: Largest mean over a sphere of 1 cm3 whose centre lies in the region.
    """

    volume_ml: float
    suv_mean: float
    suv_max: float
    suv_peak: float


@dataclass(frozen=True)
class HotVoxels:
    """Voxels hotter than a threshold.

    Attributes:
        real: In the real PET.
        shown: In the synthetic one.
        found: In both.
    """

    real: int
    shown: int
    found: int

    @property
    def sensitivity(self) -> float:
        """Share of the real ones that is shown; NaN where there are none."""
        return self.found / self.real if self.real else math.nan

    @property
    def false_share(self) -> float:
        """Share of the shown ones that is not real; NaN where none is shown."""
        return 1 - self.found / self.shown if self.shown else math.nan

    @property
    def overlap(self) -> float:
        """Dice's overlap of real and shown, 0 to 1; NaN where there are neither."""
        return 2 * self.found / (self.real + self.shown) if self.real + self.shown else math.nan


def measure_uptake(
    suv_bw: FloatArray, region: BoolArray, *, spacing_mm: tuple[float, float, float], measured: BoolArray | None = None
) -> Uptake:
    """Return how hot a region is.

    Args:
        suv_bw: SUVbw, (K, R, C).
        region: The tumour, (K, R, C).
        spacing_mm: Between (slices, rows, columns).
        measured: Where the scanner measured, (K, R, C); all when not given.

    Raises:
        InputError: Shapes that differ.
    """
    measured = np.ones(suv_bw.shape, np.bool_) if measured is None else measured
    if not suv_bw.shape == region.shape == measured.shape or suv_bw.ndim != 3:
        raise InputError(
            f"PET {suv_bw.shape}, region {region.shape} and measured {measured.shape}; expected one (K, R, C)"
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
    """Return how many voxels inside a mask are hotter than a threshold: in the real PET, as shown, and in both."""
    real, shown = (suv[inside] > threshold_suv for suv in (real_suv, synthetic_suv))
    return HotVoxels(int(real.sum()), int(shown.sum()), int((real & shown).sum()))


def _peak(suv_bw: FloatArray, centres: BoolArray, measured: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Return SUVpeak: the largest mean over the measured voxels whose centres lie in a 1 cm3 sphere around a centre.

    The sphere may reach out of the region, and is cut off at the volume's end.

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
