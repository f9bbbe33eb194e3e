"""Clinical metrics of one patient: tumour uptake, hot voxels, and the level of uptake in the body."""

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
from lib.evaluation.slice_metrics import AlignedVolumes, predict_all_methods
from lib.metrics.agreement import Agreement, limits_of_agreement
from lib.metrics.baselines import Baselines
from lib.metrics.hu_lookup import hu_share
from lib.metrics.level import Rescaled, rescale_best
from lib.metrics.uptake import HotVoxels, Uptake, hot_voxels, measure_uptake
from lib.types import BoolArray, FloatArray, finite_or_none

JOINT_BINS, JOINT_MAX_SUV = 80, 10.0  # of the joint histogram; higher SUVs are counted in its last bins
REAL = "real"


@dataclass(frozen=True, eq=False)
class ClinicalMetrics:
    """Clinical metrics of one pair by method: `real`, `model`, the baselines, then external programs.

    Attributes:
        tumour: Uptake inside the contoured tumours; None without a contour.
        tumour_note: The regions used, or why there are none.
        hot: Voxels of the body above SUV 2.5 (not for `real`, the reference).
        body_mean_suv: Mean SUV over the body.
        hu_share: Share of the PET's variance that HU explains (`lib/metrics/hu_lookup.py`).
        rescaled: Error after rescaling by each method's optimal factor (not for `real`).
        voxels: Agreement of synthetic and real SUV over the body's voxels, of the model.
        joint: Joint histogram of real (first axis) and synthetic SUV (second axis) over the body, of the model.
        regions: Uptake inside each contoured region, with its name.
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

    def metrics(self, method: str) -> dict[str, float]:
        """Return a method's metrics by name, errors as synthetic - real; NaN where undefined."""
        hot, tumour = self.hot[method], self.tumour
        values = {f"hot_{name}": getattr(hot, name) for name in ("sensitivity", "false_share", "overlap")}
        for name in ("suv_mean", "suv_max", "suv_peak"):
            error = math.nan if tumour is None else getattr(tumour[method], name) - getattr(tumour[REAL], name)
            values[f"tumour_{name}_error"] = error
        return {**vars(self.rescaled[method]), **values, "hu_share": self.hu_share[method]}

    def as_json(self) -> dict[str, Any]:
        """Return plain values, without the joint histogram, which is only plotted."""
        return {
            "tumour": None if self.tumour is None else {name: uptake.as_json() for name, uptake in self.tumour.items()},
            "tumour_note": self.tumour_note,
            "tumour_regions": [
                {"name": region, **{name: uptake.as_json() for name, uptake in uptakes.items()}}
                for region, uptakes in self.regions
            ],
            "hot_voxels": {
                name: {"real": hot.real, "shown": hot.shown, "found": hot.found} for name, hot in self.hot.items()
            },
            "body_mean_suv": finite_or_none(self.body_mean_suv),
            "hu_share": finite_or_none(self.hu_share),
            "best_factor": {name: rescaled.as_json() for name, rescaled in self.rescaled.items()},
            "voxelwise": self.voxels.as_json(),
        }


def measure_clinical(volumes: AlignedVolumes, baselines: Baselines, *, tumour_note: str = "") -> ClinicalMetrics:
    """Return the clinical metrics of the model, of the baselines, and of external programs."""
    body = volumes.body
    methods = predict_all_methods(volumes, baselines)
    all_suv = {REAL: volumes.real_suv, **methods}
    real, synthetic = volumes.real_suv[body], volumes.synthetic_suv[body]
    return ClinicalMetrics(
        tumour=None if volumes.tumour is None else _tumour_uptake(all_suv, volumes, volumes.tumour),
        tumour_note=tumour_note,
        hot={name: hot_voxels(suv, volumes.real_suv, body) for name, suv in methods.items()},
        body_mean_suv={
            name: float(suv[body].mean(dtype=np.float64)) if body.any() else math.nan for name, suv in all_suv.items()
        },
        hu_share={name: hu_share(volumes.ct_hu, suv, body) for name, suv in all_suv.items()},
        rescaled={name: rescale_best(suv[body], real) for name, suv in methods.items()},
        voxels=limits_of_agreement(synthetic, real),
        joint=_joint_histogram(real, synthetic),
        regions=tuple((name, _tumour_uptake(all_suv, volumes, region)) for name, region in volumes.regions),
    )


def tumour_of(
    contours: Iterable[Contour], volumes: AlignedVolumes, *, frame_of_reference_uid: str
) -> tuple[BoolArray | None, str]:
    """Return the union of all contoured tumours, or None, and a note on the regions used or why there are none."""
    mask, note = rasterise_tumours(contours, volumes.geometry, frame_of_reference_uid=frame_of_reference_uid)
    return (mask if mask.any() else None), note


def tumour_regions(
    contours: Iterable[Contour], volumes: AlignedVolumes, *, frame_of_reference_uid: str
) -> tuple[tuple[str, BoolArray], ...]:
    """Return (name, mask) of each contoured tumour that can be rasterised; `tumour_of` reports the others."""
    regions = []
    for contour in filter(lambda contour: contour.is_tumour, contours):
        with suppress(DicomError):
            mask = rasterise(contour, volumes.geometry, frame_of_reference_uid=frame_of_reference_uid)
            regions.append((contour.name, mask))
    return tuple(regions)


def _tumour_uptake(all_suv: Mapping[str, FloatArray], volumes: AlignedVolumes, tumour: BoolArray) -> dict[str, Uptake]:
    spacing_mm = volumes.geometry.spacing_mm
    return {
        name: measure_uptake(suv, tumour, spacing_mm=spacing_mm, measured=volumes.measured)
        for name, suv in all_suv.items()
    }


def _joint_histogram(real: FloatArray, synthetic: FloatArray) -> NDArray[np.int64]:
    step = JOINT_MAX_SUV / JOINT_BINS
    row, column = (np.clip(suv / step, 0, JOINT_BINS - 1).astype(np.int64) for suv in (real, synthetic))
    counts = np.bincount(row * JOINT_BINS + column, minlength=JOINT_BINS**2)
    return counts.reshape(JOINT_BINS, JOINT_BINS)
