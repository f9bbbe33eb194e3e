"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math

import torch

from lib.learning.recipe import Recipe
from lib.networks.cascade import Cascade

FINAL_RATE_FRACTION = 0.01  # of the peak, at the end of the cosine


def learning_rate(recipe: Recipe, *, epochs_done: float, minutes_done: float = 0.0) -> float:
    """Return the learning rate; with a time limit, the cosine follows the epochs or the clock, whichever is ahead."""
    schedule, peak = recipe.schedule, recipe.optimiser.learning_rate
    if schedule.kind == "constant":
        return peak
    if epochs_done < schedule.warmup_epochs:
        return peak * max(0.01, epochs_done / schedule.warmup_epochs)
    done = (epochs_done - schedule.warmup_epochs) / max(1e-9, schedule.epochs - schedule.warmup_epochs)
    if schedule.max_minutes:
        done = max(done, minutes_done / schedule.max_minutes)
    factor = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return peak * (FINAL_RATE_FRACTION + (1 - FINAL_RATE_FRACTION) * factor)


def make_optimiser(cascade: Cascade, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the cascade's parameters."""
    kind = torch.optim.Adam if recipe.optimiser.kind == "adam" else torch.optim.AdamW
    return kind(cascade.parameters(), lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay)
