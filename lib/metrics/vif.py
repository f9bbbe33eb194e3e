"""Visual information fidelity in the pixel domain, over four scales.

Source: Sheikh and Bovik, Image Information and Visual Quality, IEEE Transactions on Image Processing 15(2), 2006; the
pixel-domain variant its authors publish as `vifp_mscale`, with their constants. Written here because torchmetrics can
be imported only where torchvision can; a test holds it against the source of torchmetrics. It computes in double
precision: in single precision the variance of a flat background, a difference of squares, comes out as information.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_IMAGE = 41  # pixels a side, so that the fourth scale has one left
WINDOWS = (17, 9, 5, 3)  # one a scale; the Gaussian's sigma is a fifth of it
NOISE_VARIANCE = 2.0  # of the eye, in the units of an 8-bit image
FLAT = 1e-10  # a variance below carries no information


def visual_information_fidelity(synthetic: Tensor, real: Tensor) -> Tensor:
    """Return the VIF of each image: 1 for equal images, 0 for no information kept, above 1 for enhanced contrast.

    Args:
        synthetic, real: (N, 1, R, C), at least 41 x 41, nominally 0..255 (nothing is clipped).

    Returns:
        (N,), float64; NaN where the real image is flat and so has nothing to keep.
    """
    synthetic, real = synthetic.double(), real.double()
    kept = real.new_zeros(real.shape[0])
    available = real.new_zeros(real.shape[0])
    for scale, window in enumerate(WINDOWS):
        if scale > 0:
            synthetic, real = _blur(synthetic, window)[..., ::2, ::2], _blur(real, window)[..., ::2, ::2]
        mean_s, mean_r = _blur(synthetic, window), _blur(real, window)
        var_s = (_blur(synthetic * synthetic, window) - mean_s * mean_s).clamp(min=0)
        var_r = (_blur(real * real, window) - mean_r * mean_r).clamp(min=0)
        covariance = _blur(synthetic * real, window) - mean_s * mean_r

        # The model: synthetic = gain x real + noise. A gain that is undefined or negative keeps nothing.
        gain = covariance / (var_r + FLAT)
        noise = var_s - gain * covariance
        nothing_kept = (var_r < FLAT) | (gain < 0)
        gain = torch.where(nothing_kept | (var_s < FLAT), 0.0, gain)
        noise = torch.where(nothing_kept, var_s, noise).clamp(min=FLAT)
        var_r = torch.where(var_r < FLAT, 0.0, var_r)
        kept += torch.log10(1 + gain * gain * var_r / (noise + NOISE_VARIANCE)).sum(dim=(1, 2, 3))
        available += torch.log10(1 + var_r / NOISE_VARIANCE).sum(dim=(1, 2, 3))
    return torch.where(available > 0, kept / available, torch.nan)


def _blur(images: Tensor, window: int) -> Tensor:
    """Return images (N, 1, R, C) under a Gaussian where it fits, (N, 1, R - w + 1, C - w + 1).

    As two matrix products: four times as fast as a convolution of one channel in double precision.
    """
    rows, columns = (_gaussians(window, length).to(images) for length in images.shape[-2:])
    return rows @ images @ columns.T


def _gaussians(window: int, length: int) -> Tensor:
    """Return the (length - w + 1, length) matrix whose row i is the Gaussian that begins at i."""
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * (window / 5) ** 2))
    matrix = torch.zeros(length - window + 1, length, dtype=torch.float64)
    for i, weight in enumerate(weights / weights.sum()):
        matrix.diagonal(i).fill_(weight)
    return matrix
