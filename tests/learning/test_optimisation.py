"""The learning rate at moments worked by hand, and what weight decay means under each optimiser."""

from __future__ import annotations

import pytest
import torch

from lib.learning.optimisation import learning_rate, make_optimiser
from lib.learning.recipe import Recipe, load_recipe
from lib.networks.cascade import Cascade
from tests.learning.conftest import tiny_recipe


def recipe_of(*settings: str) -> Recipe:
    return load_recipe(settings=["learning_rate=0.1", "epochs=11", "warmup_epochs=1", *settings])


@pytest.mark.parametrize(
    ("epochs_done", "expected"),
    [
        (0.0, 0.001),  # warm-up begins at 1 %
        (0.5, 0.05),
        (1.0, 0.1),
        (3.5, 0.1 * (0.01 + 0.99 * 0.8535534)),  # (1 + cos 45 degrees) / 2
        (6.0, 0.0505),
        (11.0, 0.001),
        (12.0, 0.001),  # never below, never back up
    ],
)
def test_cosine(epochs_done: float, expected: float) -> None:
    assert learning_rate(recipe_of(), epochs_done=epochs_done) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epochs_done", "minutes_done", "expected"),
    [
        (1.0, 0.0, 0.1),
        (1.0, 5.0, 0.0505),  # half the time is gone
        (6.0, 1.0, 0.0505),  # the epochs are nearer to their end than the clock
        (2.0, 10.0, 0.001),
        (2.0, 99.0, 0.001),
        (0.5, 5.0, 0.05),  # warming up takes as long as it takes
    ],
)
def test_a_limit_in_minutes_moves_the_cosine_along(epochs_done: float, minutes_done: float, expected: float) -> None:
    recipe = recipe_of("max_minutes=10")
    assert learning_rate(recipe, epochs_done=epochs_done, minutes_done=minutes_done) == pytest.approx(expected)


@pytest.mark.parametrize("epochs_done", [0.0, 0.5, 100.0, 199.9])
def test_the_papers_rate_never_moves(epochs_done: float) -> None:
    assert learning_rate(load_recipe("paper"), epochs_done=epochs_done, minutes_done=1e6) == 0.001


@pytest.mark.parametrize("settings", [("warmup_epochs=0",), ("epochs=1", "warmup_epochs=1"), ("warmup_epochs=50",)])
def test_every_schedule_stays_between_one_percent_and_the_peak(settings: tuple[str, ...]) -> None:
    recipe = recipe_of(*settings)
    rates = [learning_rate(recipe, epochs_done=tenth / 10) for tenth in range(120)]
    assert min(rates) >= 0.001 - 1e-12 and max(rates) <= 0.1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("adam", 2 - 0.1),  # L2 is part of the gradient, and Adam makes any first gradient a step of the rate
        ("adamw", 2 * (1 - 0.1 * 0.01)),  # decay is apart: a share of the weight
    ],
)
def test_weight_decay_of_a_weight_without_gradient(kind: str, expected: float) -> None:
    recipe = tiny_recipe(f"optimiser.kind={kind}", "learning_rate=0.1", "weight_decay=0.01")
    cascade = Cascade(recipe.network)
    optimiser = make_optimiser(cascade, recipe)
    for parameter in cascade.parameters():
        torch.nn.init.constant_(parameter, 2.0)
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    found = torch.cat([parameter.detach().flatten() for parameter in cascade.parameters()])
    torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-5, atol=0)
