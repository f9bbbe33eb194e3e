"""Distributed training: process group, devices, what the first process decides, synchronised batch-norm statistics.

Only the first process reads and writes the folder of a run: what it finds there is sent to the others, which may be on
machines that do not see the folder, or see a former state of it.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from lib.errors import CT2PETError, TrainingError
from lib.networks.precision import choose_device

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

# the others wait while the first evaluates and publishes the model; NCCL's default of 10 minutes is too short
GROUP_TIMEOUT = datetime.timedelta(hours=12)
MIN_NORMALISED_IMAGES = 4  # the amount of air differs from slice to slice


def join_processes(device: str) -> bool:
    """Join the process group of torchrun; return whether this call joined it."""
    if idist.get_world_size() > 1 or not torch.distributed.is_available():
        return False
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    cuda = choose_device(device).type == "cuda"
    idist.initialize("nccl" if cuda else "gloo", timeout=GROUP_TIMEOUT)
    return True


def device_of_this_process(device: str) -> torch.device:
    """Return the device of a name; each of several CUDA processes gets its own."""
    chosen = choose_device(device)
    if chosen.type == "cuda" and idist.get_world_size() > 1:
        return torch.device("cuda", idist.get_local_rank())
    return chosen


def from_first(make: Callable[[], Value]) -> Value:
    """Return, in every process, what `make` returns in the first one; the others do not call it.

    Raises:
        TrainingError: In the other processes, if `make` raises an error in the first, which raises that.
    """
    if idist.get_world_size() == 1:
        return make()
    outcome: list[Any] = [None, None, None]  # value, message and code of an error
    error: Exception | None = None
    if idist.get_rank() == 0:
        try:
            outcome[0] = make()
        except (CT2PETError, OSError) as raised:
            outcome[1:], error = (str(raised), getattr(raised, "code", "write_failed")), raised
    torch.distributed.broadcast_object_list(outcome, src=0)
    if error is not None:
        raise error
    if outcome[1] is not None:
        raise TrainingError(f"the first process ended: {outcome[1]}", code=outcome[2])
    value: Value = outcome[0]
    return value


def require_same(what: str, content: object) -> None:
    """Check that all processes have the same content, compared by its representation.

    Raises:
        TrainingError: In every process, if they differ.
    """
    if idist.get_world_size() > 1:
        digests: Any = idist.all_gather(hashlib.sha256(repr(content).encode()).hexdigest())
        if len(set(digests)) > 1:
            raise TrainingError(f"the processes have different {what}; give the same ones on every machine")


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, without gradient; the tensor itself if there is one process."""
    if idist.get_world_size() == 1:
        return value
    total: Tensor = idist.all_reduce(value.detach().clone())
    return total / idist.get_world_size()


def warn_of_small_batches(images: int) -> None:
    """Log a warning, once, if a process has too few images of each batch for batch normalisation."""
    if images < MIN_NORMALISED_IMAGES and idist.get_rank() == 0:
        logger.warning(
            "each process normalises %d image(s) of a batch by itself; for at least %d, use fewer processes or larger "
            "batches (batches.size)",
            images, MIN_NORMALISED_IMAGES,
        )  # fmt: skip


def average_batch_norm(network: nn.Module) -> None:
    """Set the running statistics in every process to their mean over all processes."""
    if idist.get_world_size() > 1:
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.copy_(idist.all_reduce(buffer) / idist.get_world_size())
