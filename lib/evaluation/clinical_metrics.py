"""One patient as a reader of PET would judge: the tumour's uptake, hot spots found and invented, the body's level."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.dicom.rtstruct import Contour, rasterise, rasterise_tumours
from lib.errors import DicomError
from lib.evaluation.slice_metrics import AlignedVolumes, drawn_by_all
from lib.metrics.agreement import Agreement, limits_of_agreement
from lib.metrics.baselines import Baselines
from lib.metrics.hu_lookup import hu_share
from lib.metrics.level import Rescaled, rescale_best
from lib.metrics.uptake import HotVoxels, Uptake, hot_voxels, measure_uptake
from lib.types import BoolArray, FloatArray, finite_or_none

JOINT_BINS, JOINT_HIGHEST_SUV = 80, 10.0  # of the joint histogram; hotter voxels count in its last bins
REAL = "real"


@dataclass(frozen=True, eq=False)
class Reading:
    """Figures of one pair, by method: `real`, `model`, then the trivial baselines, then peers.

    Attributes:
        tumour: Uptake inside what was drawn as tumour; None where nobody drew one.
        tumour_note: Which regions were taken, or why none could be.
        hot: Voxels of the body above SUV 2.5 (not for `real`, which is what they are compared with).
        regions: Uptake inside each drawn region, with its name.
        body_mean_suv: Over the body.
        rescaled: What error is left after each method's best overall factor (not for `real`).
        hu_share: Share of the PET's variance that a voxel's HU explains (`lib/metrics/hu_lookup.py`).
        voxels: Synthetic - real over the body's voxels, of the model.
        joint: How often a real SUV (first axis) met a synthetic one (second), body's voxels of the model.
    """

    tumour: Mapping[str, Uptake] | None
    tumour_note: str
    hot: Mapping[str, HotVoxels]
    body_mean_suv: Mapping[str, float]
    hu_share: Mapping[str, float]
    rescaled: Mapping[str, Rescaled]
    voxels: Agreement
    joint: NDArray[np.int64]
    regions: tuple[tuple[str, Mapping[str, Uptake]], ...] = ()

    def figures(self, method: str) -> dict[str, float]:
        """Return a method's figures by name, errors as synthetic - real; NaN where not defined."""
        hot, tumour = self.hot[method], self.tumour
        named = {f"hot_{name}": getattr(hot, name) for name in ("sensitivity", "false_share", "overlap")}
        for name in ("suv_mean", "suv_max", "suv_peak"):
            error = math.nan if tumour is None else getattr(tumour[method], name) - getattr(tumour[REAL], name)
            named[f"tumour_{name}_error"] = error
        return {**vars(self.rescaled[method]), **named, "hu_share": self.hu_share[method]}

    def as_json(self) -> dict[str, Any]:
        """Return plain values: everything but the joint histogram, which is for drawing."""
        return {
            "tumour": None if self.tumour is None else {name: of.as_json() for name, of in self.tumour.items()},
            "tumour_note": self.tumour_note,
            "tumour_regions": [
                {"name": region, **{name: uptake.as_json() for name, uptake in of.items()}}
                for region, of in self.regions
            ],
            "hot_voxels": {
                name: {"real": hot.real, "shown": hot.shown, "found": hot.found} for name, hot in self.hot.items()
            },
            "body_mean_suv": finite_or_none(self.body_mean_suv),
            "hu_share": finite_or_none(self.hu_share),
            "best_factor": {name: rescaled.as_json() for name, rescaled in self.rescaled.items()},
            "voxelwise": self.voxels.as_json(),
        }


def read_pair(volumes: AlignedVolumes, baselines: Baselines, *, tumour_note: str = "") -> Reading:
    """Return what a reader would find in the model's PET, in those that the trivial baselines draw, and in peers'."""
    body = volumes.body
    methods = drawn_by_all(volumes, baselines)
    drawn = {REAL: volumes.real_suv, **methods}
    real, synthetic = volumes.real_suv[body], volumes.synthetic_suv[body]
    return Reading(
        tumour=None if volumes.tumour is None else _tumour(drawn, volumes, volumes.tumour),
        tumour_note=tumour_note,
        hot={name: hot_voxels(suv, volumes.real_suv, body) for name, suv in methods.items()},
        body_mean_suv={
            name: float(suv[body].mean(dtype=np.float64)) if body.any() else math.nan for name, suv in drawn.items()
        },
        hu_share={name: hu_share(volumes.ct_hu, suv, body) for name, suv in drawn.items()},
        rescaled={name: rescale_best(suv[body], real) for name, suv in methods.items()},
        voxels=limits_of_agreement(synthetic, real),
        joint=_joint(real, synthetic),
        regions=tuple((name, _tumour(drawn, volumes, region)) for name, region in volumes.regions),
    )


def tumour_of(
    contours: Iterable[Contour], volumes: AlignedVolumes, *, frame_of_reference_uid: str
) -> tuple[BoolArray | None, str]:
    """Return the voxels of all regions drawn as tumour together, or None, and a note: which regions, or why none."""
    mask, note = rasterise_tumours(contours, volumes.geometry, frame_of_reference_uid=frame_of_reference_uid)
    return (mask if mask.any() else None), note


def tumour_regions(
    contours: Iterable[Contour], volumes: AlignedVolumes, *, frame_of_reference_uid: str
) -> tuple[tuple[str, BoolArray], ...]:
    """Return (name, voxels) of each region drawn as tumour; one that cannot be drawn is left out, see `tumour_of`."""
    regions = []
    for contour in filter(lambda contour: contour.is_tumour, contours):
        with suppress(DicomError):
            mask = rasterise(contour, volumes.geometry, frame_of_reference_uid=frame_of_reference_uid)
            regions.append((contour.name, mask))
    return tuple(regions)


def _tumour(drawn: Mapping[str, FloatArray], volumes: AlignedVolumes, tumour: BoolArray) -> dict[str, Uptake]:
    spacing_mm = volumes.geometry.spacing_mm
    return {
        name: measure_uptake(suv, tumour, spacing_mm=spacing_mm, measured=volumes.measured)
        for name, suv in drawn.items()
    }


def _joint(real: FloatArray, synthetic: FloatArray) -> NDArray[np.int64]:
    step = JOINT_HIGHEST_SUV / JOINT_BINS
    row, column = (np.clip(suv / step, 0, JOINT_BINS - 1).astype(np.int64) for suv in (real, synthetic))
    counts = np.bincount(row * JOINT_BINS + column, minlength=JOINT_BINS**2)
    return counts.reshape(JOINT_BINS, JOINT_BINS)
