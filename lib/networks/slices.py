"""Apply a cascade to the slices of a volume, with context slices as channels and batches of a fixed shape."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lib.networks.at_once import MAX_THREADS, compute_at_once, threads_at_once
from lib.networks.cascade import NetworkConfig
from lib.networks.precision import Precision, autocast
from lib.types import FloatArray

logger = logging.getLogger(__name__)

BATCH = {"cpu": 4, "cuda": 16}  # slices
# requested before the first of them is returned: batches at once, and one that a GPU with too little memory repeats
SLICES_AHEAD = max(BATCH["cpu"] * (MAX_THREADS + 1), BATCH["cuda"])


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
    at_once: bool = True,
) -> Iterator[FloatArray]:
    """Yield every stage's PET of each requested slice, (stages, R, C) in the unit range, in order.

    Each batch has the same shape, so the result of a slice does not depend on the other requested slices. A GPU with
    too little memory gets smaller batches.

    Args:
        network: On `device`, in evaluation mode.
        ct_unit: The full CT, (K, R, C), unit range, which also provides the context of the requested slices.
        indices: Requested slices, ascending.
        slice_spacing_mm: Of the CT.
        flips: Average the PETs of the CT and of its left-right mirror image, at twice the cost.
        at_once: Compute several batches of a small network at once on a CPU; not for a network with threads of its own.
    """
    if not indices:
        return
    predict = partial(_predict_batch, network, device=device, precision=precision, flips=flips)
    stack = partial(_context_stack, ct_unit, config=network.config, slice_spacing_mm=slice_spacing_mm)
    size = BATCH[device.type]
    rows, columns = ct_unit[[indices[0]]].shape[1:]
    threads = threads_at_once(device, channels=network.config.base_channels, rows=rows, columns=columns)
    if at_once and threads > 1:
        requested = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
        stacks = (stack(batch, size=size) for batch in requested)
        for batch, pets in zip(requested, compute_at_once(predict, stacks, threads=threads), strict=True):
            yield from pets[: len(batch)]
        return
    start = 0
    while start < len(indices):
        batch = list(indices[start : start + size])
        try:
            pets = predict(stack(batch, size=size))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            logger.warning("the GPU has too little memory: continuing with %d slices at once", size)
            torch.cuda.empty_cache()
            continue
        yield from pets[: len(batch)]
        start += size


def _context_stack(
    ct_unit: SliceStack, batch: Sequence[int], *, size: int, config: NetworkConfig, slice_spacing_mm: float
) -> FloatArray:
    """Return the context of a batch's slices, (size, context, R, C); the last slice is repeated to fill the batch."""
    filled = [*batch, *[batch[-1]] * (size - len(batch))]
    return np.stack(
        [ct_unit[context_indices(i, len(ct_unit), config=config, slice_spacing_mm=slice_spacing_mm)] for i in filled]
    )


def _predict_batch(
    network: SliceNetwork, stack: FloatArray, *, device: torch.device, precision: Precision, flips: bool
) -> FloatArray:
    """Return every stage's PET, (N, stages, R, C), from (N, context, R, C)."""
    batch = torch.from_numpy(stack).to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(device, precision):
        pets = _stages(network, batch)
        if flips:
            pets = (pets + _stages(network, batch.flip(-1)).flip(-1)) / 2
    array: FloatArray = pets.cpu().numpy()
    return array


def _stages(network: SliceNetwork, batch: Tensor) -> Tensor:
    """Return every stage's PET as float32, (N, stages, R, C)."""
    return torch.cat([pet.float() for pet in network(batch)], dim=1)
