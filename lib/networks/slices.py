"""A cascade over the slices of a volume: context as channels, batches of one fixed shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lib.networks.cascade import Cascade, NetworkConfig
from lib.networks.precision import Precision, autocast
from lib.types import FloatArray

CUDA_BATCH = 16  # slices; on the CPU one slice fills both cores, and a batch of one is exact whatever its neighbours


class SliceStack(Protocol):
    """Slices that are taken by their indices, such as an array (K, R, C)."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int], /) -> FloatArray: ...


def context_indices(index: int, count: int, *, config: NetworkConfig, slice_spacing_mm: float) -> list[int]:
    """Return the slices that enter for slice `index` of `count`, in order; beyond an end the last slice is held."""
    step, half = config.context_step(slice_spacing_mm), config.context_slices // 2
    return [min(max(index + offset * step, 0), count - 1) for offset in range(-half, half + 1)]


def context_reach(config: NetworkConfig, *, slice_spacing_mm: float) -> int:
    """Return how many slices away the farthest context slice lies."""
    return config.context_slices // 2 * config.context_step(slice_spacing_mm)


def predict_stages(
    cascade: Cascade,
    ct_unit: SliceStack,
    indices: Sequence[int],
    *,
    slice_spacing_mm: float,
    device: torch.device,
    precision: Precision = "auto",
    flips: bool = False,
) -> Iterator[FloatArray]:
    """Yield every stage's PET of each asked slice, (stages, R, C) in the unit range, in order.

    Each batch has one fixed shape, so a slice's result does not depend on which others were asked for.

    Args:
        cascade: On `device`, in evaluation mode.
        ct_unit: The whole CT, (K, R, C), unit range: context is taken from it also beyond the asked slices.
        indices: Slices wanted, ascending.
        slice_spacing_mm: Of the CT.
        flips: Yield the mean of the CT's PET and of its left-right mirror image's, mirrored back: twice the work.
    """
    size = CUDA_BATCH if device.type == "cuda" else 1
    for start in range(0, len(indices), size):
        wanted = list(indices[start : start + size])
        filled = wanted + [wanted[-1]] * (size - len(wanted))
        stack = np.stack(
            [
                ct_unit[context_indices(i, len(ct_unit), config=cascade.config, slice_spacing_mm=slice_spacing_mm)]
                for i in filled
            ]
        )  # (N, context, R, C)
        batch = torch.from_numpy(stack).to(device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(device, precision):
            pets = _stages(cascade, batch)
            if flips:
                pets = (pets + _stages(cascade, batch.flip(-1)).flip(-1)) / 2
        yield from pets[: len(wanted)].cpu().numpy()


def _stages(cascade: Cascade, batch: Tensor) -> Tensor:
    """Return every stage's PET as float32, (N, stages, R, C)."""
    return torch.cat([pet.float() for pet in cascade(batch)], dim=1)
