"""The average of a network over its steps, worked by hand."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from lib.learning.averaging import attach_average, average_of
from lib.networks.cascade import Cascade, NetworkConfig


def averages(decay: float, steps: int) -> list[float]:
    """Let every number of a network be 1, 2, 3, ... in turn; return what the average holds after each step."""
    cascade = Cascade(NetworkConfig(stages=1, base_channels=2, depth=1, normalization="batch"))

    def step(engine: Engine, _: int) -> None:
        for tensor in (*cascade.parameters(), *cascade.buffers()):
            tensor.data = torch.full_like(tensor, engine.state.iteration)

    trainer, held = Engine(step), []
    average = average_of(cascade, decay)
    assert average is not None
    attach_average(average, trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note() -> None:
        of_step = {
            float(tensor.mean())
            for tensor in (*average.ema_model.parameters(), *average.ema_model.buffers())
            if tensor.is_floating_point()
        }
        assert max(of_step) - min(of_step) < 1e-4  # running statistics are averaged as the weights are
        held.append(max(of_step))

    trainer.run(range(steps))
    return held


def test_the_first_steps_are_a_plain_mean_and_later_ones_fade() -> None:
    held = averages(0.75, 6)
    assert held[:4] == pytest.approx([1, 1.5, 2, 2.5])
    assert held[4] == pytest.approx(0.75 * 2.5 + 0.25 * 5)
    assert held[5] == pytest.approx(0.75 * held[4] + 0.25 * 6)


def test_nothing_of_the_untrained_network_is_left_after_the_first_step() -> None:
    assert averages(0.999, 1) == [1.0]


def test_no_decay_no_average() -> None:
    assert average_of(Cascade(NetworkConfig(stages=1, base_channels=2, depth=1)), 0.0) is None
