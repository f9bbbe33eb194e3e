"""Metrics of one patient in a nested cross-validation, and the stratum that the patient belongs to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch

from lib.learning.cross_validation.shrinkage import WeightRatios, error_ratios, mean_ratios, shrink
from lib.learning.recipe import Recipe
from lib.learning.validation import synthesize_prepared
from lib.metrics.agreement import finite_mean, group_by_patient
from lib.metrics.baselines import BASELINE_NAMES, Baselines
from lib.metrics.image import measure_slices
from lib.metrics.uptake import HOT_SUV, measure_uptake
from lib.networks.cascade import Cascade
from lib.pairing.prepared import PairArrays, PreparedSet
from lib.types import FloatArray

IMAGE_METRICS = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body")
MEASURED = (*IMAGE_METRICS, "tumour_suv_mean_error", "tumour_suv_max_error")
Stratum = Literal["no hot tumour", "small hot tumour", "large hot tumour"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
HOT_ML, LARGE_ML = 10.0, 65.0  # hot volume; spheres 2.7 and 5 cm across, of which 5 cm parts T1 from T2 sarcoma
MethodMetrics = Mapping[str, Mapping[str, float]]  # by method, by metric; undefined ones are missing
PatientMetrics = Mapping[str, MethodMetrics]  # by patient


def measure_ratios(
    prepared: PreparedSet, cascade: Cascade, recipe: Recipe, baselines: Baselines, *, device: torch.device
) -> dict[str, WeightRatios]:
    """Return the error ratios of every patient of `prepared` by lookup weight, over several pairs the mean."""
    measured = []
    for pair in prepared.pairs:
        arrays = prepared.arrays(pair)
        predicted = synthesize_prepared(cascade, arrays, range(pair.shape[0]), recipe, device=device)
        ratios = error_ratios(predicted, arrays.suv_bw(), ct_hu=arrays.ct_hu(), body=arrays.body(), baselines=baselines)
        measured.append((pair.patient_id, ratios))
    return {patient: mean_ratios(pairs) for patient, pairs in group_by_patient(measured).items()}


def measure_patients(
    prepared: PreparedSet,
    cascade: Cascade,
    recipe: Recipe,
    baselines: Baselines,
    *,
    weight: float,
    device: torch.device,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the metrics of the model and the baselines for every patient of `prepared`, over several pairs the mean.

    Tumour errors are synthetic - real, SUV, in the contours; missing where there are none.

    Args:
        weight: Of the median lookup, see `shrink`.
    """
    measured = []
    for pair in prepared.pairs:
        arrays = prepared.arrays(pair)
        indices = range(pair.shape[0])
        ct_hu, body = arrays.ct_hu(), arrays.body()
        predicted = synthesize_prepared(cascade, arrays, indices, recipe, device=device)
        predictions = {"model": shrink(predicted, ct_hu, baselines, weight=weight)}
        predictions |= {name: baselines.predict(name, ct_hu, body) for name in BASELINE_NAMES}
        methods = {method: measure_pair(suv_bw, arrays, device=device) for method, suv_bw in predictions.items()}
        measured.append((pair.patient_id, methods))
    return {patient: mean_of_pairs(pairs) for patient, pairs in group_by_patient(measured).items()}


def stratum_of(prepared: PreparedSet, patient_id: str) -> Stratum:
    """Return the stratum of a patient, by the volume above SUV 2.5 in the contoured tumours, else in the body."""
    hot_ml = 0.0
    for pair in prepared.pairs:
        if pair.patient_id == patient_id:
            arrays = prepared.arrays(pair)
            tumour, body = arrays.tumour(), arrays.body()
            inside = body & tumour if tumour.any() else body
            hot = int(np.count_nonzero(inside & (arrays.suv_bw() > HOT_SUV)))
            hot_ml = max(hot_ml, hot * math.prod(pair.spacing_mm) / 1000)
    return STRATA[(hot_ml >= HOT_ML) + (hot_ml >= LARGE_ML)]


def measure_pair(synthetic_suv: FloatArray, arrays: PairArrays, *, device: torch.device) -> dict[str, float]:
    """Return the metrics of one synthetic PET, SUVbw on the grid of the arrays; undefined ones are missing."""
    real, body, measured = arrays.suv_bw(), arrays.body(), arrays.measured()
    image = measure_slices(synthetic_suv, real, body, measured=measured, groups=frozenset({"ssim"}), device=device)
    metrics = {name: float(getattr(image, name)) for name in IMAGE_METRICS}
    tumour = arrays.tumour()
    if tumour.any():
        synthetic, true = (
            measure_uptake(suv, tumour, spacing_mm=arrays.pair.spacing_mm, measured=measured)
            for suv in (synthetic_suv, real)
        )
        metrics["tumour_suv_mean_error"] = synthetic.suv_mean - true.suv_mean
        metrics["tumour_suv_max_error"] = synthetic.suv_max - true.suv_max
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def mean_of_pairs(pairs: Sequence[MethodMetrics]) -> dict[str, dict[str, float]]:
    """Return the mean over the pairs of one patient, of each method and metric."""
    return {
        method: {
            name: finite_mean(pair[method][name] for pair in pairs if name in pair[method])
            for name in MEASURED
            if any(name in pair[method] for pair in pairs)
        }
        for method in pairs[0]
    }
