"""Features of a network's bottleneck, averaged over the body: how the network itself describes a slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.networks.cascade import Cascade
from lib.networks.slices import SliceStack, context_indices
from lib.types import FloatArray

BATCH = 8  # slices


def bottleneck_features(
    cascade: Cascade,
    ct_unit: SliceStack,
    indices: Sequence[int],
    *,
    slice_spacing_mm: float,
    tissue_unit: float,
    device: torch.device,
) -> FloatArray:
    """Return the mean features of each slice, log(1 + value), (slices with tissue, channels).

    Args:
        cascade: On `device`, in evaluation mode.
        ct_unit: The full CT, (K, R, C), unit range.
        indices: Slices to describe, ascending.
        slice_spacing_mm: Of the CT.
        tissue_unit: Unit value above which a pixel is tissue; pixels of air do not count.
        device: Of the network.
    """
    step = 2**cascade.config.depth  # pixels of the slice in one of the bottleneck, along rows and columns
    described = []
    for start in range(0, len(indices), BATCH):
        stack = np.stack(
            [
                ct_unit[context_indices(k, len(ct_unit), config=cascade.config, slice_spacing_mm=slice_spacing_mm)]
                for k in indices[start : start + BATCH]
            ]
        )  # (N, context, R, C)
        middle = stack.shape[1] // 2
        tissue = torch.from_numpy((stack[:, middle : middle + 1] > tissue_unit).astype(np.float32)).to(device)
        batch = torch.from_numpy(stack).to(device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            described.append(_body_mean(cascade.bottleneck(batch), tissue, step).cpu().numpy())
    features = np.concatenate(described)
    return np.asarray(features[np.isfinite(features).all(axis=1)], np.float32)


def _body_mean(features: Tensor, tissue: Tensor, step: int) -> Tensor:
    """Return the mean over the pixels of tissue, (N, channels); NaN for a slice without."""
    rows, columns = features.shape[-2:]
    padded = F.pad(tissue, (0, columns * step - tissue.shape[-1], 0, rows * step - tissue.shape[-2]))
    weights = F.avg_pool2d(padded, step)
    return torch.log1p((features.float() * weights).sum((2, 3)) / weights.sum((2, 3)))
