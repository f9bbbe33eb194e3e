"""Training loss: the weighted error of the stages, in the recipe's unit range."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.learning.recipe import LossConfig
from lib.pairing.prepared import BODY, MEASURED


def of_this_process(total: Tensor) -> Tensor:
    """Return a sum of weights as it is: all of the batch is in this process."""
    return total


def cascade_loss(
    stages: list[Tensor],
    pet: Tensor,
    regions: Tensor,
    *,
    config: LossConfig,
    mean_total: Callable[[Tensor], Tensor] = of_this_process,
) -> Tensor:
    """Return the mean over supervised stages of the weighted mean error.

    Args:
        stages: Output of every stage, (N, 1, R, C) each.
        pet: Real PET, (N, 1, R, C), unit range.
        regions: Bits BODY and MEASURED, (N, 1, R, C), uint8.
        config: Loss settings of the recipe.
        mean_total: Returns the mean of the sum of weights over the processes that share a batch. The mean of their
            losses is then the loss of the whole batch, although their parts have bodies of different sizes.
    """
    weights = pixel_weights(regions, pet, config=config)
    supervised = stages if config.supervise_stages else stages[-1:]
    total = mean_total(weights.sum()).clamp(min=1.0)
    errors = [(weights * _error(stage.float(), pet, config)).sum() / total for stage in supervised]
    return torch.stack(errors).mean()


def pixel_weights(regions: Tensor, pet: Tensor, *, config: LossConfig) -> Tensor:
    """Return the weight of each pixel, (N, 1, R, C), float32; see `cascade_loss` for the arguments."""
    if config.region == "image":
        return torch.ones_like(regions, dtype=torch.float32)
    measured = (regions & MEASURED) > 0
    body = (regions & BODY) > 0
    return measured * torch.where(body, 1.0 + config.uptake_weight * pet, config.background_weight)


def _error(predicted: Tensor, pet: Tensor, config: LossConfig) -> Tensor:
    if config.kind == "mse":
        return F.mse_loss(predicted, pet, reduction="none")
    if config.kind == "l1":
        return F.l1_loss(predicted, pet, reduction="none")
    return F.smooth_l1_loss(predicted, pet, reduction="none", beta=config.beta)
