"""How good weights are on patients they were not trained on: quickly after each epoch, fully for the card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch

from lib.imaging.normalize import denormalize_pet
from lib.learning.dataset import Entries, PairsBySide
from lib.learning.model_card.card import patient_digest
from lib.learning.model_card.scores import MetricsTable, Scores, scores_of
from lib.learning.recipe import Recipe
from lib.learning.tracking.progress import KEY_METRIC
from lib.metrics.baselines import BASELINE_NAMES, Baselines, BaselineSample, fit_baselines
from lib.metrics.calibration import Calibration, CalibrationSample, fit_calibration
from lib.metrics.criteria import HU_SHARE
from lib.metrics.hu_lookup import hu_share
from lib.metrics.image import ALL_GROUPS, Group, ImageMetrics, measure_slices
from lib.networks.cascade import Cascade
from lib.networks.slices import each_stage
from lib.pairing.prepared import PairArrays, PreparedSet
from lib.types import BoolArray, FloatArray, Progress, no_progress

SHOWN_EVERY_EPOCH = ("mae_suv_body", "psnr_db_body", "correlation_body", "ssim_body")


def validate(
    cascade: Cascade, prepared: PreparedSet, sides: PairsBySide, recipe: Recipe, *, device: torch.device
) -> dict[str, float]:
    """Return the mean figures over the validation patients; each process measures its share of them.

    A figure that is defined for nobody is left out; all are when nobody is on the validation side.
    """
    was_training = cascade.training
    cascade.eval()
    share = sides.validation[idist.get_rank() :: idist.get_world_size()]
    rows = [_quick_figures(cascade, prepared.arrays(pair), indices, recipe, device) for pair, indices in share]
    cascade.train(was_training)
    if idist.get_world_size() > 1:
        gathered: Any = idist.all_gather(rows)  # a list of each process's list, whatever ignite's annotation says
        rows = [row for of_process in gathered for row in of_process]
    names = rows[0] if rows else ()
    defined = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in names}
    return {name: float(np.mean(values)) for name, values in defined.items() if values}


def score(
    cascade: Cascade,
    prepared: PreparedSet,
    entries: Entries,
    recipe: Recipe,
    baselines: Baselines,
    *,
    side: str,
    device: torch.device,
) -> Scores:
    """Return every figure of the model beside the trivial baselines, over the patients of one side."""
    figures: list[tuple[str, MetricsTable]] = []
    for pair, indices in entries:
        arrays = prepared.arrays(pair)
        chosen = list(indices)
        drawn = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
        measured = measure_with_baselines(
            drawn, arrays.suv_bw(chosen), ct_hu=arrays.ct_hu(chosen), body=arrays.body(chosen),
            measured=arrays.measured(chosen), baselines=baselines, device=device,
        )  # fmt: skip
        of_pair = {name: metrics.as_json() for name, metrics in measured.items()}
        share = hu_share(arrays.ct_hu(chosen), drawn, arrays.body(chosen))
        of_pair["model"][HU_SHARE] = None if math.isnan(share) else share
        figures.append((patient_digest(pair.patient_id), of_pair))
    return scores_of(side, figures)


def measure_with_baselines(
    synthetic_suv: FloatArray,
    real_suv: FloatArray,
    *,
    ct_hu: FloatArray,
    body: BoolArray,
    measured: BoolArray,
    baselines: Baselines,
    device: torch.device,
    groups: frozenset[Group] = ALL_GROUPS,
    progress: Progress = no_progress,
) -> dict[str, ImageMetrics]:
    """Return the figures of the model and of each trivial baseline on one volume, all arrays (K, R, C)."""

    def recorded_metric(suv_bw: FloatArray) -> ImageMetrics:
        """Return the figures of one method's PET."""
        return measure_slices(
            suv_bw, real_suv, body, measured=measured, groups=groups, device=device, progress=progress
        )

    figures = {"model": recorded_metric(synthetic_suv)}
    for name in BASELINE_NAMES:
        figures[name] = recorded_metric(baselines.predict(name, ct_hu, body))
    return figures


def fit_prepared_baselines(prepared: PreparedSet, entries: Entries) -> Baselines:
    """Return the baselines fitted on these entries, one patient in memory at a time."""

    def samples() -> Iterator[BaselineSample]:
        """Yield one pair at a time."""
        for pair, indices in entries:
            arrays, chosen = prepared.arrays(pair), list(indices)
            yield BaselineSample(arrays.ct_hu(chosen), arrays.suv_bw(chosen), arrays.body(chosen))

    return fit_baselines(samples())


def fit_prepared_calibration(
    cascade: Cascade, prepared: PreparedSet, entries: Entries, recipe: Recipe, *, device: torch.device
) -> Calibration | None:
    """Return what error to expect of a synthetic SUV, from patients the weights were not trained on.

    None where there are none: nobody on that side, or a split by slice, which puts every patient on both.
    """
    if recipe.split.unit == "slice":
        return None

    def samples() -> Iterator[CalibrationSample]:
        """Yield one pair at a time."""
        for pair, indices in entries:
            arrays, chosen = prepared.arrays(pair), list(indices)
            drawn = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
            yield CalibrationSample(drawn, arrays.suv_bw(chosen), arrays.body(chosen))

    return fit_calibration(samples())


def synthesize_prepared(
    cascade: Cascade, arrays: PairArrays, indices: Sequence[int], recipe: Recipe, *, device: torch.device
) -> FloatArray:
    """Return the synthetic PET of prepared slices, SUVbw, (len(indices), R, C)."""
    pets = each_stage(
        cascade,
        arrays.ct_unit(),
        indices,
        slice_spacing_mm=arrays.pair.spacing_mm[0],
        device=device,
        precision=recipe.precision,
        flips=recipe.synthesis.flips,
    )
    return denormalize_pet(np.stack([stages[-1] for stages in pets]), recipe.windows)


def _quick_figures(
    cascade: Cascade, arrays: PairArrays, indices: Sequence[int], recipe: Recipe, device: torch.device
) -> Mapping[str, float]:
    drawn = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
    chosen = list(indices)
    real, body = arrays.suv_bw(chosen), arrays.body(chosen)
    metrics = measure_slices(
        drawn, real, body, measured=arrays.measured(chosen), groups=frozenset({"ssim"}), device=device
    )
    level = float(np.abs(real[body]).mean()) if body.any() else math.nan
    figures = {name: float(getattr(metrics, name)) for name in SHOWN_EVERY_EPOCH}
    return {KEY_METRIC: 1 - metrics.mae_suv_body / level if level else math.nan, **figures}
