"""Profile of a CT: numbers that describe its field of view, body, HU and orientation, and facts of its header.

Computed on the network's grid from HU clipped to the recipe's window, so that prepared arrays and a CT to synthesise
from give the same profile. Needs numpy only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.types import BoolArray, FloatArray

IntArray = NDArray[np.integer[Any]]

MAX_SLICES, MAX_DESCRIBED = 48, 8  # evenly spaced slices that are examined, and those with network features
TISSUE_HU, LUNG_HU = -500.0, -500.0
BONE_HU = 300.0  # thin compact bone on pixels of 4 mm; vessels with contrast agent rarely reach it
DENSE_HU = 950.0  # compact bone and metal; below the upper end of the default recipe's window
ENHANCED_HU = 150.0  # vessels with contrast agent are brighter
VESSEL_REACH_MM, ISOLATION_MM = 10.0, 6.0  # a vessel's spot is smaller than this reach, with dark surroundings
MAX_RING = 0.05  # of the spot's pixels may be bright in its surroundings
MIN_VESSEL_CM2 = 0.4
BONE_MARGIN_MM = 12.0  # around compact bone
SOFT_TISSUE_HU, FAT_HU = (-30.0, 300.0), (-200.0, -30.0)  # where the peak of each is searched
PEAK_BIN_HU = 5.0
HISTOGRAM_HU = (-850.0, -500.0, -200.0, -120.0, -80.0, -20.0, 20.0, 50.0, 80.0, 130.0, 200.0, 300.0, 500.0)
TEMPLATE = (6, 8, 8)  # cells of the field of view whose mean HU shows the orientation


@dataclass(frozen=True)
class HeaderFacts:
    """Facts of a CT's header; empty or None where it lacks them.

    Attributes:
        age_years: PatientAge.
        contrast_agent: `yes` if the header names a contrast agent.
    """

    ct_scanner: str = ""
    body_part: str = ""
    kernel: str = ""
    contrast_agent: str = ""
    sex: str = ""
    age_years: float | None = None


@dataclass(frozen=True, eq=False)
class CTProfile:
    """Profile of one CT.

    Attributes:
        numbers: By name, see `lib/learning/familiarity/numbers.py`; unknown ones are missing.
        values: Header facts by name; unknown ones are missing.
        histogram: Square roots of the shares of body voxels between the limits of `HISTOGRAM_HU`.
        template: Mean HU / 1000 of each cell of the field of view, shape `TEMPLATE`.
        features: Mean network features of each examined slice, shape (slices, channels); empty without a network.
    """

    numbers: Mapping[str, float]
    values: Mapping[str, str] = field(default_factory=dict)
    histogram: FloatArray = field(default_factory=lambda: np.zeros(len(HISTOGRAM_HU) + 1, np.float32))
    template: FloatArray = field(default_factory=lambda: np.zeros(TEMPLATE, np.float32))
    features: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))


def examined_slices(indices: Sequence[int]) -> list[int]:
    """Return up to `MAX_SLICES` evenly spaced ones of these slices."""
    return _spread(indices, MAX_SLICES)


def described_slices(examined: Sequence[int]) -> list[int]:
    """Return those of the examined slices whose network features are computed, which takes longer."""
    return _spread(examined, MAX_DESCRIBED)


def _spread(indices: Sequence[int], limit: int) -> list[int]:
    if len(indices) <= limit:
        return list(indices)
    return [indices[round(place)] for place in np.linspace(0, len(indices) - 1, limit)]


def profile_of(
    ct_hu: FloatArray,
    *,
    spacing_mm: Sequence[float],
    length_mm: float,
    facts: HeaderFacts,
    pixel_mm: float | None = None,
    metal_ml: float | None = None,
    features: FloatArray | None = None,
) -> CTProfile:
    """Return the profile of a CT.

    Args:
        ct_hu: The examined slices on the network's grid in canonical order, HU clipped to the window, (K, R, C).
        spacing_mm: Of the network's grid: slices, rows, columns.
        length_mm: Extent of the CT along the slices.
        facts: Of its header.
        pixel_mm: Pixel size of the CT itself.
        metal_ml: Volume above 2500 HU in the CT itself.
        features: Network features of the examined slices, (K, channels).
    """
    _, row_mm, column_mm = spacing_mm
    body = enclosed(ct_hu > TISSUE_HU)
    area_cm2 = body.sum(axis=(1, 2)) * row_mm * column_mm / 100
    voxels = ct_hu[body]
    tissue = voxels[voxels > TISSUE_HU]
    numbers: dict[str, float | None] = {
        "field_of_view_width_mm": ct_hu.shape[2] * column_mm,
        "field_of_view_height_mm": ct_hu.shape[1] * row_mm,
        "length_mm": length_mm,
        "slice_spacing_mm": spacing_mm[0],
        "pixel_mm": pixel_mm,
        "body_area_cm2": float(area_cm2.max()),
        "metal_ml": metal_ml,
        "age_years": facts.age_years,
    }
    if tissue.size:
        numbers |= {
            "lung_share": 1 - tissue.size / voxels.size,
            "dense_share": float(np.mean(tissue >= DENSE_HU)),
            "vessel_slices": _slices_with_vessels(ct_hu, body, row_mm=row_mm, column_mm=column_mm),
            "soft_tissue_peak_hu": _peak(tissue, SOFT_TISSUE_HU),
            "fat_peak_hu": _peak(tissue, FAT_HU),
        }
    counts, _ = np.histogram(voxels, (-np.inf, *HISTOGRAM_HU, np.inf))
    values = {name: getattr(facts, name) for name in ("ct_scanner", "body_part", "kernel", "contrast_agent", "sex")}
    return CTProfile(
        numbers={name: float(value) for name, value in numbers.items() if value is not None},
        values={name: value for name, value in values.items() if value},
        histogram=np.sqrt(counts / max(1, voxels.size)).astype(np.float32),
        template=_cells(ct_hu / np.float32(1000)),
        features=np.zeros((0, 0), np.float32) if features is None else features,
    )


def enclosed(mask: BoolArray) -> BoolArray:
    """Return the pixels between mask pixels in their row and in their column, (K, R, C), so that lungs are body."""
    inside = mask.copy()
    for axis in (1, 2):
        before = np.logical_or.accumulate(mask, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
        inside = (before & after) if axis == 1 else inside & before & after
    return np.asarray(inside | mask)


def _slices_with_vessels(ct_hu: FloatArray, body: BoolArray, *, row_mm: float, column_mm: float) -> float:
    """Return the share of slices that show enhanced vessels: bright, isolated spots far from bone.

    Spongy bone has the HU of enhanced vessels, but it is larger, or close to compact bone.
    """
    found = 0
    for slice_hu, inside in zip(ct_hu, body, strict=True):  # one at a time: counts take much more memory than a CT
        bright = inside & (slice_hu > ENHANCED_HU)
        near = _box_counts(bright, VESSEL_REACH_MM, row_mm, column_mm)
        ring = _box_counts(bright, VESSEL_REACH_MM + ISOLATION_MM, row_mm, column_mm) - near
        bone = _box_counts(slice_hu > BONE_HU, BONE_MARGIN_MM, row_mm, column_mm) > 0
        spots = bright & ~bone & (ring <= MAX_RING * near)
        found += int(spots.sum()) * row_mm * column_mm / 100 > MIN_VESSEL_CM2
    return found / len(ct_hu)


def _box_counts(mask: BoolArray, reach_mm: float, row_mm: float, column_mm: float) -> IntArray:
    """Return the number of pixels with mask within a reach along rows and columns of each pixel, (R, C)."""
    counts: IntArray = mask.astype(np.int32)
    for step_mm in (row_mm, column_mm):
        reach, size = max(1, round(reach_mm / step_mm)), len(counts)
        sums = np.cumsum(np.pad(counts, ((reach + 1, reach), (0, 0))), axis=0)
        counts = (sums[2 * reach + 1 : 2 * reach + 1 + size] - sums[:size]).T
    return counts


def _peak(tissue_hu: FloatArray, limits: tuple[float, float]) -> float | None:
    """Return the HU of the highest bin of the smoothed histogram between two limits; None without voxels there."""
    edges = np.arange(limits[0], limits[1] + PEAK_BIN_HU, PEAK_BIN_HU)
    counts, _ = np.histogram(tissue_hu, edges)
    if not counts.any():
        return None
    smooth = np.convolve(counts, (1, 2, 3, 2, 1), mode="same")
    return float(edges[int(smooth.argmax())] + PEAK_BIN_HU / 2)


def _cells(array: FloatArray) -> FloatArray:
    """Return the mean of each cell of a coarse grid, shape `TEMPLATE`; a cell has at least one voxel."""
    for axis, count in enumerate(TEMPLATE):
        size = array.shape[axis]
        edges = np.linspace(0, size, count + 1)
        parts = [
            array.take(range(int(low), max(int(low) + 1, int(np.ceil(high)))), axis=axis, mode="clip").mean(axis=axis)
            for low, high in itertools.pairwise(edges)
        ]
        array = np.stack(parts, axis=axis)
    return np.asarray(array, np.float32)
