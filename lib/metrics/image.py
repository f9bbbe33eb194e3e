"""Slice-wise image metrics of two PET volumes, over the full slice and inside the body.

All use one fixed range, 0 to 10 SUV: a range taken from the images would make a bad slice look good. SSIM and MS-SSIM
are computed by MONAI; other libraries give other values for the same pair, so every report states `library_versions`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lib.errors import InputError
from lib.metrics.ssim import (
    BORDER,
    DATA_RANGE_SUV,
    MIN_MS_SSIM_PIXELS,
    SIGMA,
    WINDOW,
    ms_ssim_of_slices,
    ssim_maps,
)
from lib.metrics.vif import MIN_IMAGE_PIXELS, visual_information_fidelity
from lib.types import BoolArray, FloatArray, NamedNumbers, Progress, no_progress

BATCH_SLICES = 16  # keeps memory flat

Group = Literal["ssim", "ms_ssim", "vif"]
ALL_GROUPS: frozenset[Group] = frozenset(get_args(Group))


@dataclass(frozen=True)
class ImageMetrics(NamedNumbers):
    """The metrics of a volume. NaN means undefined or not requested; PSNR is infinite for equal images.

    MAE, MSE [SUV squared] and the PSNR of that MSE pool all voxels of the volume. SSIM, MS-SSIM and VIF are means over
    slices; `ssim_body` is the mean of the SSIM map over the body's pixels; for `ms_ssim_body` and `vif_body` both
    images are 0 outside the body, and slices without body are ignored. Pixels that were not measured are 0 in both.
    """

    mae_suv: float
    psnr_db: float
    ssim: float
    ms_ssim: float
    vif: float
    mse: float
    mae_suv_body: float
    psnr_db_body: float
    ssim_body: float
    ms_ssim_body: float
    vif_body: float
    mse_body: float
    correlation_body: float  # Pearson's, over voxels
    bias_suv_body: float  # mean of synthetic - real


def measure_slices(
    synthetic_suv: FloatArray,
    real_suv: FloatArray,
    body: BoolArray,
    *,
    measured: BoolArray | None = None,
    groups: frozenset[Group] = ALL_GROUPS,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> ImageMetrics:
    """Return the slice-wise metrics of one volume.

    Args:
        synthetic_suv, real_suv: SUVbw, (K, R, C).
        body: Inside the patient, (K, R, C).
        measured: Voxels that the scanner measured; all others are ignored. None: where the real PET is finite.
        groups: The costly metrics to compute; the others are NaN.
        device: Where SSIM, MS-SSIM and VIF are computed.
        progress: Called after every few slices.

    Raises:
        InputError: The shapes differ, or a group is unknown.
    """
    measured = np.isfinite(real_suv) if measured is None else measured
    for name, array in (("real", real_suv), ("body", body), ("measured", measured)):
        if array.ndim != 3 or array.shape != synthetic_suv.shape:
            raise InputError(
                f"synthetic PET of shape {synthetic_suv.shape}, {name} {array.shape}; expected one shape (K, R, C)"
            )
    if unknown := groups - ALL_GROUPS:
        raise InputError(
            f"unknown metrics {', '.join(sorted(unknown))}; expected any of {', '.join(sorted(ALL_GROUPS))}"
        )
    inside = body & measured
    mae, mse, _, _ = _errors(synthetic_suv[measured], real_suv[measured])
    mae_body, mse_body, bias, correlation = _errors(synthetic_suv[inside], real_suv[inside])
    similarity = _SimilaritySums()
    for part in _parts(len(measured)):
        where, within = _to(measured[part], device), _to(inside[part], device)
        # where(), not a product: NaN x 0 is NaN
        synthetic = torch.where(where, _to(synthetic_suv[part], device), 0.0)
        real = torch.where(where, _to(real_suv[part], device), 0.0)
        similarity.add(synthetic, real, where, within, groups)
        progress(min(part.stop, len(measured)), len(measured), "measuring")
    return ImageMetrics(
        mae_suv=mae,
        psnr_db=psnr_db(mse),
        ssim=_mean(similarity.ssim),
        ms_ssim=_mean(similarity.ms_ssim),
        vif=_mean(similarity.vif),
        mse=mse,
        mae_suv_body=mae_body,
        psnr_db_body=psnr_db(mse_body),
        ssim_body=similarity.ssim_body_sum / similarity.ssim_body_pixels if similarity.ssim_body_pixels else math.nan,
        ms_ssim_body=_mean(similarity.ms_ssim_body),
        vif_body=_mean(similarity.vif_body),
        mse_body=mse_body,
        correlation_body=correlation,
        bias_suv_body=bias,
    )


def mean_metrics(metrics: Iterable[ImageMetrics]) -> ImageMetrics:
    """Return the mean over patients, each metric over those in which it is defined (NaN without any)."""
    rows = list(metrics)
    return ImageMetrics(**{f.name: _mean([getattr(row, f.name) for row in rows]) for f in fields(ImageMetrics)})


def library_versions() -> dict[str, str]:
    """Return which implementation computed each metric, for the report."""
    monai = f"monai {version('monai')}"
    return {
        "ssim": f"{monai}, 2D, Gaussian {WINDOW} px sigma {SIGMA}, range 0-{DATA_RANGE_SUV:g} SUV",
        "ms_ssim": f"{monai}, 2D, 5 scales, range 0-{DATA_RANGE_SUV:g} SUV, "
        f"slices below {MIN_MS_SSIM_PIXELS} px zero-padded to {MIN_MS_SSIM_PIXELS} px",
        "ssim_3d": f"ct2pet, definition of {monai}, 3D, Gaussian {WINDOW} voxels sigma {SIGMA}, "
        f"range 0-{DATA_RANGE_SUV:g} SUV",
        "ms_ssim_3d": f"ct2pet, definition of {monai}, 3D, 5 scales, range 0-{DATA_RANGE_SUV:g} SUV",
        "vif": f"ct2pet, 2D, pixel domain, 4 scales, SUV x 255/{DATA_RANGE_SUV:g}",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def psnr_db(mse: float) -> float:
    """Return the PSNR of an MSE [SUV squared] for the fixed range: inf for 0, -inf for inf, NaN for NaN."""
    if mse in (0, math.inf):  # the square of a diverged network's output overflows float32
        return math.inf if mse == 0 else -math.inf
    return 10 * math.log10(DATA_RANGE_SUV**2 / mse)


def vif_of_slices(synthetic_suv: Tensor, real_suv: Tensor) -> Tensor:
    """Return the VIF, (N,), of (N, 1, R, C) SUV as an 8-bit image; NaN for less than 41 pixels or a flat real image."""
    if min(real_suv.shape[-2:]) < MIN_IMAGE_PIXELS:
        return torch.full((real_suv.shape[0],), torch.nan)
    levels = 255 / DATA_RANGE_SUV
    return visual_information_fidelity(synthetic_suv * levels, real_suv * levels)


@dataclass
class _SimilaritySums:
    """Running totals of `measure_slices`, which adds a few slices at a time."""

    ssim: list[float] = field(default_factory=list)
    ssim_body_sum: float = 0.0
    ssim_body_pixels: int = 0
    ms_ssim: list[float] = field(default_factory=list)
    ms_ssim_body: list[float] = field(default_factory=list)
    vif: list[float] = field(default_factory=list)
    vif_body: list[float] = field(default_factory=list)

    @torch.inference_mode()
    def add(self, synthetic: Tensor, real: Tensor, where: Tensor, within: Tensor, groups: frozenset[Group]) -> None:
        """Add slices, each argument (N, 1, R, C)."""
        non_empty = where.flatten(1).any(dim=1)
        if not non_empty.any():
            return
        synthetic, real, where, within = synthetic[non_empty], real[non_empty], where[non_empty], within[non_empty]
        if "ssim" in groups and min(real.shape[-2:]) >= WINDOW:
            maps = ssim_maps(synthetic, real).double()
            crop = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
            inner, body = where[crop], within[crop]
            # a slice measured at its border only gives 0 / 0 = NaN, which the mean ignores
            self.ssim += ((maps * inner).sum(dim=(1, 2, 3)) / inner.sum(dim=(1, 2, 3))).tolist()
            self.ssim_body_sum += float(maps[body].sum())
            self.ssim_body_pixels += int(body.sum())
        filled = within.flatten(1).any(dim=1)
        in_body = (torch.where(within, synthetic, 0.0)[filled], torch.where(within, real, 0.0)[filled])
        if "ms_ssim" in groups:
            self.ms_ssim += ms_ssim_of_slices(synthetic, real).tolist()
            self.ms_ssim_body += ms_ssim_of_slices(*in_body).tolist() if filled.any() else []
        if "vif" in groups:
            self.vif += vif_of_slices(synthetic, real).tolist()
            self.vif_body += vif_of_slices(*in_body).tolist() if filled.any() else []


def _errors(synthetic: FloatArray, real: FloatArray) -> tuple[float, float, float, float]:
    """Return (MAE, MSE, mean of synthetic - real, Pearson's correlation) of voxels; NaN without voxels.

    Both arrays are overwritten, so that a large volume is not copied again in every step.
    """
    if real.size == 0:
        return math.nan, math.nan, math.nan, math.nan
    difference = synthetic - real
    bias = float(difference.mean(dtype=np.float64))
    mae = float(np.abs(difference, out=difference).mean(dtype=np.float64))
    mse = float(np.square(difference, out=difference).mean(dtype=np.float64))
    if np.ptp(synthetic) == 0 or np.ptp(real) == 0:
        return mae, mse, bias, math.nan
    synthetic -= synthetic.mean(dtype=np.float64)
    real -= real.mean(dtype=np.float64)
    product = np.multiply(synthetic, real, out=difference).sum()
    of_synthetic, of_real = (np.square(array, out=array).sum() for array in (synthetic, real))
    return mae, mse, bias, float(product / np.sqrt(of_synthetic * of_real))


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + BATCH_SLICES) for start in range(0, count, BATCH_SLICES))


def _to(array: FloatArray | BoolArray, device: torch.device | str) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array), device=device).unsqueeze(1)
