"""Apply a cascade to the slices of a volume, with context slices as channels and batches of a fixed shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lib.networks.cascade import NetworkConfig
from lib.networks.precision import Precision, autocast
from lib.types import FloatArray

BATCH = {"cpu": 4, "cuda": 16}  # slices


class SliceNetwork(Protocol):
    """A network that predicts the PET of slices, such as a `Cascade`."""

    @property
    def config(self) -> NetworkConfig:
        """Its context slices, among others."""

    def __call__(self, ct: Tensor, /) -> list[Tensor]:
        """Return every stage's PET, each (N, 1, R, C), from (N, context_slices, R, C), both in the unit range."""


class SliceStack(Protocol):
    """Slices that are indexed by a list, such as an array (K, R, C)."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: list[int], /) -> FloatArray: ...


def context_indices(index: int, count: int, *, config: NetworkConfig, slice_spacing_mm: float) -> list[int]:
    """Return the context slices of slice `index` of `count`, in order; indices beyond an end are clamped."""
    step, half = config.context_step(slice_spacing_mm), config.context_slices // 2
    return [min(max(index + offset * step, 0), count - 1) for offset in range(-half, half + 1)]


def context_reach(config: NetworkConfig, *, slice_spacing_mm: float) -> int:
    """Return the distance of the farthest context slice, in slices."""
    return config.context_slices // 2 * config.context_step(slice_spacing_mm)


def predict_stages(
    network: SliceNetwork,
    ct_unit: SliceStack,
    indices: Sequence[int],
    *,
    slice_spacing_mm: float,
    device: torch.device,
    precision: Precision = "auto",
    flips: bool = False,
) -> Iterator[FloatArray]:
    """Yield every stage's PET of each requested slice, (stages, R, C) in the unit range, in order.

    Each batch has the same shape, so the result of a slice does not depend on the other requested slices.

    Args:
        network: On `device`, in evaluation mode.
        ct_unit: The full CT, (K, R, C), unit range, which also provides the context of the requested slices.
        indices: Requested slices, ascending.
        slice_spacing_mm: Of the CT.
        flips: Average the PETs of the CT and of its left-right mirror image, at twice the cost.
    """
    size = BATCH[device.type]
    for start in range(0, len(indices), size):
        requested = list(indices[start : start + size])
        filled = requested + [requested[-1]] * (size - len(requested))
        stack = np.stack(
            [
                ct_unit[context_indices(i, len(ct_unit), config=network.config, slice_spacing_mm=slice_spacing_mm)]
                for i in filled
            ]
        )  # (N, context, R, C)
        batch = torch.from_numpy(stack).to(device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(device, precision):
            pets = _stages(network, batch)
            if flips:
                pets = (pets + _stages(network, batch.flip(-1)).flip(-1)) / 2
        yield from pets[: len(requested)].cpu().numpy()


def _stages(network: SliceNetwork, batch: Tensor) -> Tensor:
    """Return every stage's PET as float32, (N, stages, R, C)."""
    return torch.cat([pet.float() for pet in network(batch)], dim=1)
