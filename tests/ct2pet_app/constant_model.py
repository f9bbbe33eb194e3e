"""Models whose output is known without training: one SUV everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lib.learning.checkpoint import save_checkpoint
from lib.learning.familiarity.reference import Reference
from lib.learning.model_card.card import ModelCard, TrainingData, patient_digest
from lib.learning.recipe import Recipe, load_recipe
from lib.metrics.baselines import BaselineSample, fit_baselines
from lib.metrics.calibration import Calibration
from lib.metrics.conformal.intervals import Intervals
from lib.networks.cascade import Cascade


def tiny_recipe(stages: int) -> Recipe:
    """The default recipe on coarse pixels, with a network of a few hundred weights."""
    settings = ("pixel_mm=6.0", "base_channels=2", "depth=1", "context_slices=1", "normalization=none", "epochs=1")
    recipe = load_recipe(settings=settings)
    return replace(recipe, network=replace(recipe.network, stages=stages))


def save_constant_model(
    path: Path,
    suv: float,
    *,
    stages: int = 3,
    trained_on: Iterable[str] = (),
    validated_on: Iterable[str] = (),
    calibration: Calibration | None = None,
    intervals: Intervals | None = None,
    familiarity: Reference | None = None,
) -> Path:
    """Write a checkpoint that predicts `suv` in every voxel: weights 0, and a bias of sqrt(suv / 20) in stage 1."""
    recipe = tiny_recipe(stages)
    cascade = Cascade(recipe.network)
    with torch.no_grad():
        for weights in cascade.parameters():
            weights.zero_()
        cascade.stages[0].head.bias.fill_(math.sqrt(suv / recipe.windows.pet_high_suv))  # type: ignore[union-attr]
    seen, chosen_on = (tuple(sorted(map(patient_digest, patients))) for patients in (trained_on, validated_on))
    sample = BaselineSample(
        np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 2), np.float32), np.ones((1, 2, 2), np.bool_)
    )
    card = ModelCard(
        name=f"constant-{stages}",
        created="2026-01-01T00:00:00+00:00",
        recipe=recipe,
        network=recipe.network,
        training=TrainingData(patients=seen, validation_patients=chosen_on, pairs=len(seen), slices=0, digest="0"),
        epoch=1,
        scores=None,
        baselines=fit_baselines([sample]).to_json(),
        versions={},
        calibration=None if calibration is None else calibration.to_json(),
        intervals=None if intervals is None else intervals.to_json(),
        familiarity=None if familiarity is None else familiarity.to_json(),
    )
    return save_checkpoint(path, cascade, card)


def save_sensitive_model(path: Path, settings: Iterable[str]) -> Path:
    """Write a checkpoint of one stage whose PET changes wherever the CT does: no weight below 0, on a recipe's grid."""
    recipe = load_recipe(settings=("stages=1", *settings))
    torch.manual_seed(0)
    cascade = Cascade(recipe.network)
    with torch.no_grad():
        for weights in cascade.parameters():
            weights.abs_().mul_(0.5)
        cascade.stages[0].head.bias.fill_(0.1)  # type: ignore[union-attr]
    card = ModelCard(
        name="sensitive", created="2026-01-01T00:00:00+00:00", recipe=recipe, network=recipe.network,
        training=TrainingData(patients=(), validation_patients=(), pairs=0, slices=0, digest="0"),
        epoch=0, scores=None, baselines=None, versions={},
    )  # fmt: skip
    return save_checkpoint(path, cascade, card)
