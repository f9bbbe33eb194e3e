"""Visual information fidelity in the pixel domain, over four scales.

Source: Sheikh and Bovik, Image Information and Visual Quality, IEEE Transactions on Image Processing 15(2), 2006; the
pixel-domain variant that its authors publish as `vifp_mscale`, with their constants. Implemented here because
torchmetrics cannot be imported without torchvision; a test compares it with the source of torchmetrics. Computed in
double precision: in single precision the variance of a flat background, a difference of squares, counts as information.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_IMAGE_PIXELS = 41  # pixels a side, so that one remains at the fourth scale
WINDOWS = (17, 9, 5, 3)  # one per scale; the Gaussian's sigma is a fifth of it
NOISE_VARIANCE = 2.0  # of the eye, in the units of an 8-bit image
FLAT = 1e-10  # a lower variance carries no information


def visual_information_fidelity(synthetic: Tensor, real: Tensor) -> Tensor:
    """Return the VIF of each image: 1 for equal images, 0 for no information preserved, above 1 for more contrast.

    Args:
        synthetic, real: (N, 1, R, C), at least 41 x 41, nominally 0..255 (nothing is clipped).

    Returns:
        (N,), float64; NaN where the real image is flat and carries no information.
    """
    synthetic, real = synthetic.double(), real.double()
    preserved = real.new_zeros(real.shape[0])
    available = real.new_zeros(real.shape[0])
    for scale, window in enumerate(WINDOWS):
        if scale > 0:
            synthetic, real = _blur(synthetic, window)[..., ::2, ::2], _blur(real, window)[..., ::2, ::2]
        mean_s, mean_r = _blur(synthetic, window), _blur(real, window)
        var_s = (_blur(synthetic * synthetic, window) - mean_s * mean_s).clamp(min=0)
        var_r = (_blur(real * real, window) - mean_r * mean_r).clamp(min=0)
        covariance = _blur(synthetic * real, window) - mean_s * mean_r

        # The model: synthetic = gain x real + noise. With an undefined or negative gain no information is preserved.
        gain = covariance / (var_r + FLAT)
        noise = var_s - gain * covariance
        none_preserved = (var_r < FLAT) | (gain < 0)
        gain = torch.where(none_preserved | (var_s < FLAT), 0.0, gain)
        noise = torch.where(none_preserved, var_s, noise).clamp(min=FLAT)
        var_r = torch.where(var_r < FLAT, 0.0, var_r)
        preserved += torch.log10(1 + gain * gain * var_r / (noise + NOISE_VARIANCE)).sum(dim=(1, 2, 3))
        available += torch.log10(1 + var_r / NOISE_VARIANCE).sum(dim=(1, 2, 3))
    return torch.where(available > 0, preserved / available, torch.nan)


def _blur(images: Tensor, window: int) -> Tensor:
    """Return images (N, 1, R, C) filtered by a Gaussian without padding, (N, 1, R - w + 1, C - w + 1).

    Two matrix products are four times as fast as a convolution of one channel in double precision.
    """
    rows, columns = (_gaussians(window, length).to(images) for length in images.shape[-2:])
    return rows @ images @ columns.T


def _gaussians(window: int, length: int) -> Tensor:
    """Return the (length - w + 1, length) matrix with the Gaussian that begins at i in row i."""
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * (window / 5) ** 2))
    matrix = torch.zeros(length - window + 1, length, dtype=torch.float64)
    for i, weight in enumerate(weights / weights.sum()):
        matrix.diagonal(i).fill_(weight)
    return matrix
