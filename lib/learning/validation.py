"""Evaluate weights on patients not used for training: briefly after each epoch, fully for the model card."""

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
from lib.metrics.appearance import AppearanceMetrics, measure_appearance
from lib.metrics.baselines import BASELINE_NAMES, Baselines, BaselineSample, fit_baselines
from lib.metrics.calibration import Calibration, CalibrationSample, fit_calibration
from lib.metrics.conformal.intervals import Intervals, IntervalSample, fit_intervals
from lib.metrics.criteria import HU_SHARE
from lib.metrics.hu_lookup import hu_share
from lib.metrics.image import ALL_GROUPS, Group, ImageMetrics, measure_slices
from lib.networks.cascade import Cascade
from lib.networks.slices import SliceNetwork, predict_stages
from lib.pairing.prepared import PairArrays, PreparedSet
from lib.types import BoolArray, FloatArray, Progress, no_progress

MAX_EPOCH_SLICES = 96  # with more, validation takes over a tenth of an epoch of 36 patients
EPOCH_METRICS = ("mae_suv_body", "psnr_db_body", "correlation_body", "ssim_body")


def validate(
    cascade: Cascade, prepared: PreparedSet, sides: PairsBySide, recipe: Recipe, *, device: torch.device
) -> dict[str, float]:
    """Return the mean metrics over the validation pairs, which are distributed over the processes.

    Of many slices, evenly spaced ones are measured, the same in every epoch; the model card measures all. Metrics that
    are undefined for all pairs are omitted; without validation patients the result is empty.
    """
    was_training = cascade.training
    cascade.eval()
    shard = sides.validation[idist.get_rank() :: idist.get_world_size()]
    step = math.ceil(sum(len(indices) for _, indices in sides.validation) / MAX_EPOCH_SLICES) or 1
    rows = [_epoch_metrics(cascade, prepared.arrays(pair), indices[::step], recipe, device) for pair, indices in shard]
    cascade.train(was_training)
    if idist.get_world_size() > 1:
        gathered: Any = idist.all_gather(rows)  # a list of lists, one per process, unlike ignite's annotation
        rows = [row for of_process in gathered for row in of_process]
    names = rows[0] if rows else ()
    defined = {name: [row[name] for row in rows if math.isfinite(row[name])] for name in names}
    return {name: float(np.mean(values)) for name, values in defined.items() if values}


def score(
    cascade: SliceNetwork,
    prepared: PreparedSet,
    entries: Entries,
    recipe: Recipe,
    baselines: Baselines,
    *,
    side: str,
    device: torch.device,
) -> Scores:
    """Return all metrics of the model and the baselines over the patients of one side."""
    tables = [
        (
            patient_digest(pair.patient_id),
            score_pair(
                synthesize_prepared(cascade, arrays, indices, recipe, device=device), arrays, indices, baselines,
                device=device,
            ),
        )
        for pair, indices in entries
        for arrays in [prepared.arrays(pair)]
    ]  # fmt: skip
    return scores_of(side, tables)


def score_pair(
    synthetic_suv: FloatArray,
    arrays: PairArrays,
    indices: Sequence[int],
    baselines: Baselines,
    *,
    device: torch.device,
) -> MetricsTable:
    """Return all metrics of a synthetic PET of prepared slices, (len(indices), R, C), and of the baselines."""
    chosen = list(indices)
    ct_hu, body = arrays.ct_hu(chosen), arrays.body(chosen)
    measured = measure_with_baselines(
        synthetic_suv, arrays.suv_bw(chosen), ct_hu=ct_hu, body=body, measured=arrays.measured(chosen),
        baselines=baselines, device=device,
    )  # fmt: skip
    table = {name: metrics.as_json() for name, metrics in measured.items()}
    for method, appearance in _appearances(synthetic_suv, arrays, chosen, baselines).items():
        table[method] |= appearance.as_json()
    share = hu_share(ct_hu, synthetic_suv, body)
    table["model"][HU_SHARE] = None if math.isnan(share) else share
    return table


def _appearances(
    synthetic_suv: FloatArray, arrays: PairArrays, chosen: list[int], baselines: Baselines
) -> dict[str, AppearanceMetrics]:
    """Return what a reader sees at once, of the model and each baseline."""
    ct_hu, real, body = arrays.ct_hu(chosen), arrays.suv_bw(chosen), arrays.body(chosen)
    predictions: dict[str, FloatArray] = {"model": synthetic_suv}
    predictions |= {name: baselines.predict(name, ct_hu, body) for name in BASELINE_NAMES}
    return {
        name: measure_appearance(suv_bw, real, body, spacing_mm=arrays.pair.spacing_mm)
        for name, suv_bw in predictions.items()
    }


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
    """Return the metrics of the model and each baseline on one volume, all arrays of shape (K, R, C)."""

    def measure(suv_bw: FloatArray) -> ImageMetrics:
        """Return the metrics of one method."""
        return measure_slices(
            suv_bw, real_suv, body, measured=measured, groups=groups, device=device, progress=progress
        )

    metrics = {"model": measure(synthetic_suv)}
    for name in BASELINE_NAMES:
        metrics[name] = measure(baselines.predict(name, ct_hu, body))
    return metrics


def fit_prepared_baselines(prepared: PreparedSet, entries: Entries) -> Baselines:
    """Return the baselines fitted on these pairs, with one pair in memory at a time."""

    def samples() -> Iterator[BaselineSample]:
        """Yield one pair at a time."""
        for pair, indices in entries:
            arrays, chosen = prepared.arrays(pair), list(indices)
            yield BaselineSample(arrays.ct_hu(chosen), arrays.suv_bw(chosen), arrays.body(chosen))

    return fit_baselines(samples())


def fit_prepared_calibration(
    cascade: SliceNetwork, prepared: PreparedSet, entries: Entries, recipe: Recipe, *, device: torch.device
) -> Calibration | None:
    """Return the expected error of a synthetic SUV, fitted on patients not used for training.

    Return None without such patients, or with a split by slice, where patients are on several sides.
    """
    if recipe.split.unit == "slice":
        return None

    return fit_calibration(calibration_samples(cascade, prepared, entries, recipe, device=device))


def calibration_samples(
    cascade: SliceNetwork, prepared: PreparedSet, entries: Entries, recipe: Recipe, *, device: torch.device
) -> Iterator[CalibrationSample]:
    """Yield the synthetic and the real PET of each pair, one at a time."""
    for pair, indices in entries:
        arrays, chosen = prepared.arrays(pair), list(indices)
        synthetic = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
        yield CalibrationSample(synthetic, arrays.suv_bw(chosen), arrays.body(chosen))


def fit_prepared_intervals(
    cascade: Cascade, prepared: PreparedSet, entries: Entries, recipe: Recipe, *, device: torch.device
) -> Intervals | None:
    """Return intervals for voxels, regions and lesions, fitted on patients not used for training.

    Return None without such patients, or with a split by slice.
    """
    if recipe.split.unit == "slice":
        return None

    def samples() -> Iterator[IntervalSample]:
        """Yield one pair at a time."""
        for pair, indices in entries:
            synthetic = synthesize_prepared(cascade, prepared.arrays(pair), indices, recipe, device=device)
            yield interval_sample(prepared.arrays(pair), indices, synthetic)

    return fit_intervals(samples())


def interval_sample(arrays: PairArrays, indices: Sequence[int], synthetic_suv: FloatArray) -> IntervalSample:
    """Return the sample of a pair's synthetic PET, SUVbw, (len(indices), R, C), for the fit of intervals."""
    chosen, pair = list(indices), arrays.pair
    return IntervalSample(
        pair.patient_id, synthetic_suv, arrays.suv_bw(chosen), arrays.body(chosen), arrays.measured(chosen),
        arrays.tumour(chosen), pair.spacing_mm,
    )  # fmt: skip


def synthesize_prepared(
    cascade: SliceNetwork, arrays: PairArrays, indices: Sequence[int], recipe: Recipe, *, device: torch.device
) -> FloatArray:
    """Return the synthetic PET of prepared slices, SUVbw, (len(indices), R, C)."""
    pets = predict_stages(
        cascade,
        arrays.ct_unit(),
        indices,
        slice_spacing_mm=arrays.pair.spacing_mm[0],
        device=device,
        precision=recipe.precision,
        flips=recipe.synthesis.flips,
    )
    return denormalize_pet(np.stack([stages[-1] for stages in pets]), recipe.windows)


def _epoch_metrics(
    cascade: Cascade, arrays: PairArrays, indices: Sequence[int], recipe: Recipe, device: torch.device
) -> Mapping[str, float]:
    synthetic = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
    chosen = list(indices)
    real, body = arrays.suv_bw(chosen), arrays.body(chosen)
    metrics = measure_slices(
        synthetic, real, body, measured=arrays.measured(chosen), groups=frozenset({"ssim"}), device=device
    )
    zero_mae = float(np.abs(real[body]).mean()) if body.any() else math.nan
    values = {name: float(getattr(metrics, name)) for name in EPOCH_METRICS}
    return {KEY_METRIC: 1 - metrics.mae_suv_body / zero_mae if zero_mae else math.nan, **values}
