"""Averaged weights: the running mean of a network over its steps, which errs less than its last step."""

from __future__ import annotations

from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

from lib.networks.cascade import Cascade

MOMENTUM = "ema_momentum"  # the name under which ignite's handler looks it up


def average_of(cascade: Cascade, decay: float) -> EMAHandler | None:
    """Return the average of a cascade's weights and running statistics; none where the decay is 0."""
    # statistics belong to the weights they were taken with, so that they are averaged like these
    return EMAHandler(cascade, momentum=1 - decay, handle_buffers="update") if decay else None


def attach_average(average: EMAHandler, trainer: Engine) -> None:
    """Let every step of the trainer enter the average.

    The first steps enter as a plain mean, 1, 1/2, 1/3, ..., until that falls to 1 - decay: otherwise untrained weights,
    and the variance of 1 that normalisation starts from, would stay in the average for hundreds of steps.
    """

    def warm_up(engine: Engine) -> None:
        """Set how much this step counts."""
        setattr(engine.state, MOMENTUM, max(average.momentum, 1 / engine.state.iteration))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, warm_up)
    average.attach(trainer, name=MOMENTUM)
