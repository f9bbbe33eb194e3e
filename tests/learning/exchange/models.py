"""A small model that was trained here, as far as its file says, and a phantom to apply it to."""

from __future__ import annotations

from pathlib import Path

import torch

from lib.learning.checkpoint import save_checkpoint
from lib.networks.cascade import Cascade
from lib.phantom.generate import PhantomSettings
from tests.learning.conftest import make_card, tiny_recipe

COARSE = PhantomSettings(slices=6, ct_matrix=48, ct_pixel_mm=8.5, pet_matrix=32, pet_pixel_mm=12.8)


def save_model(path: Path, *settings: str) -> Path:
    """Write a model of two stages with random weights, which draws a PET of some SUV."""
    torch.manual_seed(0)
    recipe = tiny_recipe("pixel_mm=9.0", "normalization=group", *settings)
    cascade = Cascade(recipe.network)
    with torch.no_grad():
        for stage in cascade.stages:
            stage.head.bias.fill_(0.1)  # type: ignore[union-attr, operator]
            stage.head.weight.uniform_(-0.05, 0.05)  # type: ignore[union-attr, operator]
    return save_checkpoint(path, cascade, make_card(recipe=recipe, network=recipe.network))
