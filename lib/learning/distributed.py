"""Several processes that train one model: how they find one another, and what they must agree on."""

from __future__ import annotations

import datetime
import os

import ignite.distributed as idist
import torch
from torch import nn

from lib.networks.precision import choose_device

# the others wait while the first measures and publishes the model by itself; torch's 10 minutes under NCCL are few
PATIENCE = datetime.timedelta(hours=12)


def join_processes(device: str) -> bool:
    """Join the process group that torchrun announces; return whether this call joined it."""
    if idist.get_world_size() > 1 or not torch.distributed.is_available():
        return False
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    cuda = choose_device(device).type == "cuda"
    idist.initialize("nccl" if cuda else "gloo", timeout=PATIENCE)
    return True


def device_of_this_process(device: str) -> torch.device:
    """Return the device of that name; of several CUDA processes each takes its own."""
    chosen = choose_device(device)
    if chosen.type == "cuda" and idist.get_world_size() > 1:
        return torch.device("cuda", idist.get_local_rank())
    return chosen


def average_batch_norm(network: nn.Module) -> None:
    """Give every process the mean of all processes' running statistics: each normalised its own batches."""
    if idist.get_world_size() > 1:
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.copy_(idist.all_reduce(buffer) / idist.get_world_size())
