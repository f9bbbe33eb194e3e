"""Every figure of the paper after every epoch, on a fixed sample of training and of test slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from lib.imaging.normalize import denormalize_pet
from lib.learning.dataset import Entries, PairsBySide
from lib.learning.losses import cascade_loss
from lib.learning.recipe import Recipe
from lib.metrics.image import ImageMetrics, mean_metrics, measure_slices
from lib.networks.cascade import Cascade
from lib.networks.slices import each_stage
from lib.pairing.prepared import PairArrays, PreparedPair, PreparedSet
from lib.types import FloatArray

SIDES = ("train", "test")


def record_epoch(
    cascade: Cascade, prepared: PreparedSet, sides: PairsBySide, recipe: Recipe, *, device: torch.device
) -> dict[str, dict[str, float | None]]:
    """Return the loss and every image figure by side, `train` and `test`; empty when the recipe records nothing.

    The slices are spread evenly over each side and are the same after every epoch. The mean is over slices, as in the
    paper. Nothing is chosen by these figures.
    """
    if not recipe.schedule.record_slices:
        return {}
    was_training = cascade.training
    cascade.eval()
    recorded = {}
    for side in SIDES:
        entries = sample(getattr(sides, side), recipe.schedule.record_slices)
        if entries:
            recorded[side] = _figures(cascade, prepared, entries, recipe, device)
    cascade.train(was_training)
    return recorded


def sample(entries: Entries, count: int) -> list[tuple[PreparedPair, tuple[int, ...]]]:
    """Return `count` slices spread evenly over all of a side, or all where there are fewer."""
    slices = [(pair, index) for pair, indices in entries for index in indices]
    chosen = [slices[k] for k in np.unique(np.linspace(0, len(slices) - 1, min(count, len(slices))).astype(int))]
    by_pair: dict[str, tuple[PreparedPair, list[int]]] = {}
    for pair, index in chosen:
        by_pair.setdefault(pair.id, (pair, []))[1].append(index)
    return [(pair, tuple(indices)) for pair, indices in by_pair.values()]


def _figures(
    cascade: Cascade, prepared: PreparedSet, entries: Entries, recipe: Recipe, device: torch.device
) -> dict[str, float | None]:
    losses: list[float] = []
    metrics: list[ImageMetrics] = []
    for pair, indices in entries:
        arrays = prepared.arrays(pair)
        stages = each_stage(
            cascade,
            arrays.ct_unit(),
            indices,
            slice_spacing_mm=pair.spacing_mm[0],
            device=device,
            precision=recipe.precision,
            flips=recipe.synthesis.flips,
        )
        for index, drawn in zip(indices, stages, strict=True):
            losses.append(_loss(drawn, arrays, index, recipe))
            one = slice(index, index + 1)
            metrics.append(
                measure_slices(
                    denormalize_pet(drawn[-1:], recipe.windows),
                    arrays.suv_bw(one),
                    arrays.body(one),
                    measured=arrays.measured(one),
                    device=device,
                )
            )
    return {"loss": float(np.mean(losses)), **mean_metrics(metrics).as_json()}


def _loss(stages: FloatArray, arrays: PairArrays, index: int, recipe: Recipe) -> float:
    one = slice(index, index + 1)
    pet = torch.from_numpy(arrays.pet_unit(one))[None]  # (1, 1, R, C)
    regions = torch.from_numpy(np.array(arrays.regions[one]))[None]
    drawn = [torch.from_numpy(stage)[None, None] for stage in stages]
    return float(cascade_loss(drawn, pet, regions, config=recipe.loss))


def recorded_metric(recorded: Mapping[str, Mapping[str, float | None]], side: str, name: str) -> float:
    """Return one recorded figure, NaN where it was not recorded or is not defined."""
    value = recorded.get(side, {}).get(name)
    return float("nan") if value is None else value
