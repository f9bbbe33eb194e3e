"""Exponential moving average (EMA) of weights, and batch-norm statistics that fit the averaged weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lib.networks.cascade import Cascade

MOMENTUM = "ema_momentum"  # name of the attribute that ignite's handler reads


def make_ema(cascade: Cascade, decay: float) -> EMAHandler | None:
    """Return the EMA of a cascade's weights, with its latest running statistics; None if the decay is 0."""
    return EMAHandler(cascade, momentum=1 - decay, handle_buffers="copy") if decay else None


def attach_ema(average: EMAHandler, trainer: Engine) -> None:
    """Update the EMA after every step of the trainer.

    The first steps have the weights of a plain mean, 1, 1/2, 1/3, ..., down to 1 - decay. Otherwise untrained weights
    would remain in the average for hundreds of steps.
    """

    def warm_up(engine: Engine) -> None:
        """Set the weight of this step."""
        setattr(engine.state, MOMENTUM, max(average.momentum, 1 / engine.state.iteration))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, warm_up)
    average.attach(trainer, name=MOMENTUM)


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recompute batch-norm statistics as the mean over batches with the current weights.

    Running statistics depend on weights of many steps ago. They do not fit averaged weights, nor any weights while the
    learning rate is high, which makes a network worse in evaluation than in training.

    Args:
        batches: Inputs of the network, (N, context, R, C).

    Source: "precise batch normalisation", Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3.
    """
    update_bn(batches, network)
