"""Data augmentation of a training batch: mirror, rotation, zoom; offset and noise of the CT."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.learning.recipe import BatchConfig


def augment(
    ct: Tensor, pet: Tensor, regions: Tensor, *, config: BatchConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return an augmented batch.

    Args:
        ct, pet: (N, channels, R, C) and (N, 1, R, C), unit range.
        regions: (N, 1, R, C), uint8 bits; interpolated to the nearest pixel.
        config: Kinds and ranges of the augmentation.
        generator: On the CPU, so that a seed gives the same result on every device.
    """
    if config.flip:
        mirrored = (torch.rand(len(ct), generator=generator) < 0.5).to(ct.device)[:, None, None, None]
        ct, pet, regions = (torch.where(mirrored, array.flip(-1), array) for array in (ct, pet, regions))
    if config.rotate_degrees or config.scale:
        grid = _random_grid(ct, config, generator)
        ct = F.grid_sample(ct, grid, align_corners=False)
        pet = F.grid_sample(pet, grid, align_corners=False)
        regions = F.grid_sample(regions.float(), grid, mode="nearest", align_corners=False).to(torch.uint8)
    if config.ct_shift:
        shift = (torch.rand(len(ct), 1, 1, 1, generator=generator) * 2 - 1) * config.ct_shift
        ct = (ct + shift.to(ct.device)).clamp(0, 1)
    if config.ct_noise:
        strength = torch.rand(len(ct), 1, 1, 1, generator=generator) * config.ct_noise
        noise = torch.randn(ct.shape, generator=generator) * strength
        ct = (ct + noise.to(ct.device)).clamp(0, 1)
    return ct, pet, regions


def _random_grid(ct: Tensor, config: BatchConfig, generator: torch.Generator) -> Tensor:
    count, _, rows, columns = ct.shape
    uniform = torch.rand(count, 2, generator=generator) * 2 - 1
    angle = uniform[:, 0] * math.radians(config.rotate_degrees)
    zoom = 1 + uniform[:, 1] * config.scale
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    zero = torch.zeros(count)
    # grid_sample's coordinates are -1 to 1 on both axes; the ratio prevents shear in images that are not square
    theta = torch.stack(
        [
            torch.stack([cosine, -sine * rows / columns, zero], dim=1),
            torch.stack([sine * columns / rows, cosine, zero], dim=1),
        ],
        dim=1,
    )
    return F.affine_grid(theta.to(ct.device), [count, 1, rows, columns], align_corners=False)
