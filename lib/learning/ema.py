"""Averaged weights: the running mean of a network over its steps, which errs less than its last step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from lib.networks.cascade import Cascade

MOMENTUM = "ema_momentum"  # the name under which ignite's handler looks it up


def make_ema(cascade: Cascade, decay: float) -> EMAHandler | None:
    """Return the average of a cascade's weights, with its last running statistics; none where the decay is 0."""
    return EMAHandler(cascade, momentum=1 - decay, handle_buffers="copy") if decay else None


def attach_ema(average: EMAHandler, trainer: Engine) -> None:
    """Let every step of the trainer enter the average.

    The first steps enter as a plain mean, 1, 1/2, 1/3, ..., until that falls to 1 - decay: otherwise untrained weights
    would stay in the average for hundreds of steps.
    """

    def warm_up(engine: Engine) -> None:
        """Set how much this step counts."""
        setattr(engine.state, MOMENTUM, max(average.momentum, 1 / engine.state.iteration))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, warm_up)
    average.attach(trainer, name=MOMENTUM)


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set batch normalisation to the plain mean of these batches, seen with the weights as they are now.

    Running statistics remember weights of many steps ago, which an average of weights, or any weights while the
    learning rate is high, do not fit: such a network is worse in evaluation than it was in training.

    Args:
        batches: Inputs of the network, (N, context, R, C).

    Source: "precise batch normalisation", Wu and Johnson, Rethinking "Batch" in BatchNorm (2021), section 3.
    """
    update_bn(batches, network)
