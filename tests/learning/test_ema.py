"""The average of a network over its steps, worked by hand."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from lib.learning.ema import attach_ema, make_ema, recompute_batch_norm
from lib.networks.cascade import Cascade, NetworkConfig


def averages(decay: float, steps: int) -> list[float]:
    """Set every weight of a network to 1, 2, 3, ...; return the average after each step."""
    cascade = Cascade(NetworkConfig(stages=1, base_channels=2, depth=1, normalization="batch"))

    def step(engine: Engine, _: int) -> None:
        for tensor in cascade.parameters():
            tensor.data = torch.full_like(tensor, engine.state.iteration)

    trainer, held = Engine(step), []
    average = make_ema(cascade, decay)
    assert average is not None
    attach_ema(average, trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note() -> None:
        of_step = {float(tensor.mean()) for tensor in average.ema_model.parameters()}
        assert max(of_step) - min(of_step) < 1e-4
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
    assert make_ema(Cascade(NetworkConfig(stages=1, base_channels=2, depth=1)), 0.0) is None


def test_statistics_are_the_plain_mean_of_the_batches_whatever_was_remembered() -> None:
    norm = nn.BatchNorm2d(1)
    norm.running_mean, norm.running_var = torch.tensor([40.0]), torch.tensor([400.0])  # of weights long gone
    batches = [torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1), torch.tensor([5.0, 9.0]).reshape(2, 1, 1, 1)]
    recompute_batch_norm(norm, batches)
    assert norm.running_mean.tolist() == pytest.approx([4.5])  # of 2 and 7
    assert norm.running_var.tolist() == pytest.approx([5.0])  # of 2 and 8, with n - 1
    assert norm.momentum == 0.1  # training goes on as before


def test_statistics_fit_the_weights_that_are_kept() -> None:
    """On the batch of its statistics, a network in evaluation mode equals itself in training mode."""
    torch.manual_seed(0)
    cascade = Cascade(NetworkConfig(stages=2, base_channels=2, depth=1, context_slices=1, normalization="batch"))
    batch = torch.rand(8, 1, 16, 16)
    with torch.no_grad():
        trained = cascade.train()(batch)[0]
        before = cascade.eval()(batch)[0]
        recompute_batch_norm(cascade, [batch])
        judged = cascade.eval()(batch)[0]
    assert torch.allclose(judged, trained, atol=1e-2)
    assert not torch.allclose(before, trained, atol=5e-2)


def test_a_network_without_running_statistics_is_left_as_it_is() -> None:
    cascade = Cascade(NetworkConfig(stages=1, base_channels=2, depth=1, normalization="instance"))
    before = {name: value.clone() for name, value in cascade.state_dict().items()}
    recompute_batch_norm(cascade, [])
    assert all(torch.equal(before[name], value) for name, value in cascade.state_dict().items())
