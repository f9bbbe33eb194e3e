"""MONAI's SSIM and MS-SSIM of slices, for a fixed range of 0 to 10 SUV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor
from torch.nn import functional

DATA_RANGE_SUV = 10.0
WINDOW, SIGMA = 11, 1.5  # of SSIM, pixels: Wang et al. 2004
BORDER = WINDOW // 2  # SSIM has no value nearer to the edge of the image
MIN_MS_SSIM_PIXELS = 176  # pixels a side: five scales of an 11-pixel window, MONAI's rule
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM: Wang, Simoncelli, Bovik 2003; MONAI's


def ssim_maps(synthetic_suv: Tensor, real_suv: Tensor) -> Tensor:
    """Return MONAI's SSIM at each pixel, (N, 1, R - 10, C - 10), of (N, 1, R, C) SUV."""
    return _ssim_and_contrast(synthetic_suv, real_suv)[0]


def ms_ssim_of_slices(synthetic_suv: Tensor, real_suv: Tensor) -> Tensor:
    """Return MONAI's MS-SSIM, (N,), of (N, 1, R, C) SUV, float64; NaN for images of less than 11 pixels a side.

    Its five scales need 176 pixels a side: smaller images are zero-padded to that size. Both images are equal in the
    padding, which raises the value, so compare it on the same slices only.
    """
    if min(real_suv.shape[-2:]) < WINDOW:
        return torch.full((real_suv.shape[0],), torch.nan)
    rows, columns = (max(0, MIN_MS_SSIM_PIXELS - length) for length in real_suv.shape[-2:])
    around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    synthetic_suv, real_suv = (functional.pad(image, around) for image in (synthetic_suv, real_suv))
    value = torch.ones(real_suv.shape[0], dtype=torch.float64, device=real_suv.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            synthetic_suv, real_suv = (functional.avg_pool2d(image, 2) for image in (synthetic_suv, real_suv))
        ssim, contrast = _mean_ssim_and_contrast(synthetic_suv, real_suv)
        is_last = scale == len(SCALE_WEIGHTS) - 1
        value = value * torch.relu(ssim if is_last else contrast) ** weight
    return value


def _mean_ssim_and_contrast(synthetic_suv: Tensor, real_suv: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of MONAI's SSIM and contrast-structure maps over each image, (N,), of (N, 1, R, C) SUV.

    Where no image has uptake, as around the body and in padding, both maps are exactly 1 and are not computed.
    """
    has_uptake = ((synthetic_suv != 0) | (real_suv != 0)).any(dim=0)[0]
    crop = (..., _within_window(has_uptake.any(dim=1)), _within_window(has_uptake.any(dim=0)))
    pixels = math.prod(length - WINDOW + 1 for length in real_suv.shape[-2:])
    ssim, contrast = (
        1 + (maps.double() - 1).sum(dim=(1, 2, 3)) / pixels
        for maps in _ssim_and_contrast(synthetic_suv[crop], real_suv[crop])
    )
    return ssim, contrast


def _within_window(has_uptake: Tensor) -> slice:
    """Return the rows or columns that a window with uptake reads."""
    found = torch.nonzero(has_uptake).flatten().tolist()
    return slice(max(0, found[0] - WINDOW + 1), found[-1] + WINDOW) if found else slice(WINDOW)


def _ssim_and_contrast(synthetic_suv: Tensor, real_suv: Tensor) -> tuple[Tensor, Tensor]:
    """Return MONAI's SSIM and contrast-structure at each pixel, (N, 1, R - 10, C - 10), of (N, 1, R, C) SUV."""
    with _full_precision():
        ssim, contrast = compute_ssim_and_cs(
            synthetic_suv,
            real_suv,
            spatial_dims=2,
            data_range=DATA_RANGE_SUV,
            kernel_size=(WINDOW, WINDOW),
            kernel_sigma=(SIGMA, SIGMA),
        )
    return torch.as_tensor(ssim), torch.as_tensor(contrast)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Disable NVIDIA's TF32: with its 10-bit mantissa the variances in SSIM, differences of squares, are wrong."""
    cudnn: Any = torch.backends.cudnn  # its type stubs lack `conv`
    convolution = cudnn.conv
    before = convolution.fp32_precision
    convolution.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolution.fp32_precision = before
