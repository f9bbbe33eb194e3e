"""The optimiser, and how its learning rate moves."""

from __future__ import annotations

import math

import torch

from lib.learning.recipe import Recipe
from lib.networks.cascade import Cascade

FINAL_SHARE_OF_RATE = 0.01  # where the cosine ends


def learning_rate(recipe: Recipe, *, epochs_done: float, minutes_done: float = 0.0) -> float:
    """Return the learning rate at a moment of training; a limit in minutes moves the cosine along when it is nearer."""
    schedule, peak = recipe.schedule, recipe.optimiser.learning_rate
    if schedule.kind == "constant":
        return peak
    if epochs_done < schedule.warmup_epochs:
        return peak * max(0.01, epochs_done / schedule.warmup_epochs)
    done = (epochs_done - schedule.warmup_epochs) / max(1e-9, schedule.epochs - schedule.warmup_epochs)
    if schedule.max_minutes:
        done = max(done, minutes_done / schedule.max_minutes)
    share = (1 + math.cos(math.pi * min(1.0, done))) / 2
    return peak * (FINAL_SHARE_OF_RATE + (1 - FINAL_SHARE_OF_RATE) * share)


def make_optimiser(cascade: Cascade, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over the cascade's parameters."""
    kind = torch.optim.Adam if recipe.optimiser.kind == "adam" else torch.optim.AdamW
    return kind(cascade.parameters(), lr=recipe.optimiser.learning_rate, weight_decay=recipe.optimiser.weight_decay)
