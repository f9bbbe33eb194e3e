"""What a training over several processes must equal: one process that trains on all of their batches at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from lib.learning import training
from lib.learning.dataset import SampleKey, ShardSampler, SliceDataset
from lib.learning.ema import recompute_batch_norm
from lib.learning.recipe import Recipe
from lib.learning.trainer import Trainer

PROCESSES = 2


class GlobalSampler(Sampler[SampleKey]):
    """The samples of all processes: each batch has the batch of the first, then that of the second."""

    def __init__(self, dataset: SliceDataset, recipe: Recipe, **_: int) -> None:
        self.parts = [ShardSampler(dataset, recipe, rank=rank, world_size=PROCESSES) for rank in range(PROCESSES)]
        self.batch_size = PROCESSES * self.parts[0].batch_size

    def set_epoch(self, epoch: int) -> None:
        for part in self.parts:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[SampleKey]:
        size = self.parts[0].batch_size
        orders = [iter(part) for part in self.parts]
        batches = len(self.parts[0]) // size
        return chain.from_iterable(list(islice(order, size)) for _ in range(batches) for order in orders)


class GlobalTrainer(Trainer):
    """Augments and normalises each process's part of a batch by itself, and takes the loss of the whole batch."""

    def _augmented(self, *batch: Tensor, step: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        parts = []
        for rank, part in enumerate(zip(*(array.chunk(PROCESSES) for array in batch), strict=True)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("lib.learning.trainer.idist.get_rank", lambda rank=rank: rank)
                parts.append(super()._augmented(*part, step=step))
        cts, targets = zip(*parts, strict=True)
        pets, regions = zip(*targets, strict=True)
        return torch.cat(cts), (torch.cat(pets), torch.cat(regions))

    def _forward(self, ct: Tensor, network: nn.Module) -> list[Tensor]:
        parts: list[list[Tensor]] = [super(GlobalTrainer, self)._forward(part, network) for part in ct.chunk(PROCESSES)]
        return [torch.cat(stage) for stage in zip(*parts, strict=True)]

    def _recompute_batch_norm(self, network: nn.Module, slices: int) -> None:
        batches: Any = islice(self.loader, math.ceil(slices / self.recipe.batches.size))
        inputs = (self._augmented(*batch, step=step)[0].chunk(PROCESSES) for step, batch in enumerate(batches))
        recompute_batch_norm(network, chain.from_iterable(inputs))


def train_on_global_batches(*arguments: Any, **options: Any) -> training.TrainingResult:
    """Call `train` with the batches of two processes in this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Trainer", GlobalTrainer)
        patch.setattr("lib.learning.trainer.ShardSampler", GlobalSampler)
        return training.train(*arguments, **options)
