"""Ablation study of a recipe, cross-validated by patient, on training patients only.

The recipe's own test patients are excluded first, so no decision made here depends on them. Every variant is trained
once per fold and measured on the fold's patients with the weights of its last epoch, so that no weights are selected on
the patients they are measured on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lib.errors import PreparedDataError, RecipeError
from lib.experiments.ablation_variants import REFERENCE, Variant
from lib.files import write_text
from lib.learning.checkpoint import load_checkpoint
from lib.learning.dataset import divide
from lib.learning.model_card.card import data_digest
from lib.learning.recipe import Recipe, SynthesisConfig, load_recipe
from lib.learning.training import train
from lib.learning.validation import fit_on, synthesize_prepared
from lib.metrics.agreement import group_by_patient
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.image import measure_slices
from lib.metrics.uptake import measure_uptake
from lib.metrics.verdict import Metrics
from lib.networks.cascade import Cascade, forward_flops
from lib.networks.precision import choose_device
from lib.pairing.prepared import PairArrays, Preparation, PreparedSet
from lib.pairing.split import Side, Split
from lib.types import FloatArray, Progress, no_progress, share_of

FOLDS_SALT = "folds"
STUDIES_FILE = "studies.sha256"
REFERENCE_PIXELS = 256  # rows and columns, for FLOPs
MEASURED = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "tumour_suv_mean_error")

PatientMetrics = Mapping[str, Metrics]  # by patient


@dataclass(frozen=True)
class Result:
    """The result of one variant.

    Attributes:
        gflop: Of one 256 x 256 slice: all stages, flips and seeds.
        model: Metrics of each patient that was held out in a fold.
        training_patients: Number of training patients per network, mean over folds.
    """

    variant: Variant
    gflop: float
    model: PatientMetrics
    training_patients: float = math.nan


@dataclass(frozen=True)
class Ablation:
    """The results of all variants, the reference first, and of the baselines on the same patients."""

    results: tuple[Result, ...]
    baselines: Mapping[str, PatientMetrics]


def run_ablation(
    prepared_for: Callable[[Preparation], PreparedSet],
    recipe: str,
    settings: Sequence[str],
    variants: Sequence[Variant],
    out: Path,
    *,
    folds: int = 4,
    only: Sequence[int] = (),
    device: str = "auto",
    progress: Progress = no_progress,
) -> Ablation:
    """Train and measure the reference and every variant in every fold; finished steps are not repeated.

    Args:
        prepared_for: Returns the arrays of a preparation; those of the recipe's test patients are never opened.
        recipe: Name or file of the reference.
        settings: Changes to the reference and all variants, such as larger pixels or fewer epochs.
        variants: Variants to compare with the reference.
        out: Output folder; each training is a run in `runs/`, each measurement a file in `figures/`.
        folds: Number of folds; patients are assigned by their hash.
        only: Folds to run, 0 to folds - 1 (several machines can share the work); all when empty.
        device: As for training.
        progress: Called during training.

    Raises:
        RecipeError: A setting or a fold does not exist.
        PreparedDataError: A fold has no patients, or `out` holds results of other studies.
    """
    selected = tuple(only) or tuple(range(folds))
    if folds < 2 or not all(0 <= fold < folds for fold in selected):
        raise RecipeError(f"expected folds from 0 to {folds - 1} of at least 2, found {list(selected)} of {folds}")
    all_variants = (Variant(REFERENCE, REFERENCE), *variants)
    recipes = {variant.name: load_recipe(recipe, settings=(*settings, *variant.settings)) for variant in all_variants}
    results: list[Result] = []
    baselines: dict[str, dict[str, Metrics]] = {name: {} for name in BASELINE_NAMES}
    done = 0
    for variant in all_variants:
        by_patient: dict[str, Metrics] = {}
        trained_on: list[int] = []
        variant_recipe = recipes[variant.name]
        arrays = _without_test(prepared_for(variant_recipe.preparation), variant_recipe)
        _check_studies(arrays, out)
        for fold in selected:
            title = f"{variant.name}, fold {fold + 1} of {folds}"
            report = share_of(progress, done, len(all_variants) * len(selected), title)
            fold_recipe = replace(variant_recipe, split=_fold(variant_recipe.split, fold, folds))
            trained_on.append(variant.patients or len(divide(arrays, fold_recipe.split).patients(Side.TRAIN)))
            by_patient |= _variant_metrics(arrays, fold_recipe, variant, out, device=device, progress=report)
            if variant.name == REFERENCE:
                for name, metrics in _baseline_metrics(arrays, fold_recipe).items():
                    baselines[name] |= metrics
            done += 1
        gflop = variant.seeds * _gflop(variant_recipe)
        results.append(Result(variant, gflop, by_patient, float(np.mean(trained_on))))
    return Ablation(tuple(results), baselines)


def _fold(split: Split, fold: int, folds: int) -> Split:
    """Return the split whose test side is one fold; with another salt, as the test patients are already excluded."""
    return replace(split, test=1 / folds, validation=0.0, offset=fold / folds, salt=f"{split.salt} {FOLDS_SALT}")


def _without_test(prepared: PreparedSet, recipe: Recipe) -> PreparedSet:
    pairs = tuple(pair for pair in prepared.pairs if recipe.split.side_of_patient(pair.patient_id) is not Side.TEST)
    if recipe.split.unit != "patient":
        raise RecipeError("an ablation splits by patient; set split.unit = patient")
    return replace(prepared, pairs=pairs)


def _check_studies(prepared: PreparedSet, out: Path) -> None:
    path, digest = out / STUDIES_FILE, data_digest(prepared.pairs)
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, digest)
    elif path.read_text() != digest:
        raise PreparedDataError(f"{out}: holds results of other studies; choose another folder")


def _variant_metrics(
    prepared: PreparedSet, recipe: Recipe, variant: Variant, out: Path, *, device: str, progress: Progress
) -> PatientMetrics:
    path = out / "figures" / f"{_digest(recipe, variant)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    sides = divide(prepared, recipe.split)
    if not sides.test:
        raise PreparedDataError("a fold has no patients to measure on; choose fewer folds or give more patients")
    subset = _first_patients(prepared, recipe, variant.patients)
    networks = [
        _train(subset, replace(recipe, seed=recipe.seed + seed), variant, out, device=device, progress=progress)
        for seed in range(variant.seeds)
    ]
    measured = []
    for pair, indices in sides.test:
        arrays = prepared.arrays(pair)
        predictions = [
            synthesize_prepared(network, arrays, indices, recipe, device=choose_device(device)) for network in networks
        ]
        measured.append((pair.patient_id, _measure(np.mean(predictions, axis=0), arrays)))
    metrics = mean_over_pairs(measured)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(metrics))
    return metrics


def _train(
    prepared: PreparedSet, recipe: Recipe, variant: Variant, out: Path, *, device: str, progress: Progress
) -> Cascade:
    training_recipe = replace(recipe, synthesis=SynthesisConfig())  # synthesis settings do not affect training
    run = out / "runs" / _digest(training_recipe, replace(variant, seeds=1))
    result = train(prepared, training_recipe, run, resume=True, device=device, progress=progress)
    for resumable in run.glob("resume_*.pt"):
        resumable.unlink()  # to save disk space: finished runs are never resumed
    return load_checkpoint(result.model, device=choose_device(device))[0]


def _first_patients(prepared: PreparedSet, recipe: Recipe, count: int) -> PreparedSet:
    """Return the set with only `count` of the fold's training patients, the first by their hash; 0 for all."""
    if not count:
        return prepared
    on_train = [p for p in prepared.patients() if recipe.split.side_of_patient(p) is Side.TRAIN]
    ordered = sorted(on_train, key=lambda patient: hashlib.sha256(f"curve/{patient}".encode()).hexdigest())
    if count > len(ordered):
        raise PreparedDataError(f"{count} training patients were requested, but this fold has {len(ordered)}")
    left_out = set(ordered[count:])
    return replace(prepared, pairs=tuple(pair for pair in prepared.pairs if pair.patient_id not in left_out))


def _baseline_metrics(prepared: PreparedSet, recipe: Recipe) -> Mapping[str, PatientMetrics]:
    sides = divide(prepared, recipe.split)
    baselines = fit_on(prepared, sides.train)
    measured: dict[str, list[tuple[str, Metrics]]] = {name: [] for name in BASELINE_NAMES}
    for pair, _ in sides.test:
        arrays = prepared.arrays(pair)
        for name in BASELINE_NAMES:
            prediction = baselines.predict(name, arrays.ct_hu(), arrays.body())
            measured[name].append((pair.patient_id, _measure(prediction, arrays)))
    return {name: mean_over_pairs(pairs) for name, pairs in measured.items()}


def mean_over_pairs(measured: Sequence[tuple[str, Metrics]]) -> PatientMetrics:
    """Return each patient's metrics from (patient, metrics) pairs; several pairs are averaged where defined."""
    return {
        patient_id: {
            name: float(np.mean([metrics[name] for metrics in pairs if name in metrics]))
            for name in MEASURED
            if any(name in metrics for metrics in pairs)
        }
        for patient_id, pairs in group_by_patient(measured).items()
    }


def _measure(synthetic_suv: FloatArray, arrays: PairArrays) -> Metrics:
    """Return the metrics of one volume; undefined ones are omitted."""
    real, body, measured = arrays.suv_bw(), arrays.body(), arrays.measured()
    image = measure_slices(synthetic_suv, real, body, measured=measured, groups=frozenset({"ssim"}))
    metrics = {name: float(getattr(image, name)) for name in MEASURED if hasattr(image, name)}
    tumour = arrays.tumour()
    if tumour.any():
        means = [
            measure_uptake(suv, tumour, spacing_mm=arrays.pair.spacing_mm, measured=measured).suv_mean
            for suv in (synthetic_suv, real)
        ]
        metrics["tumour_suv_mean_error"] = means[0] - means[1]
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _digest(recipe: Recipe, variant: Variant) -> str:
    canonical = json.dumps(
        {**asdict(replace(recipe, name="")), "patients": variant.patients, "seeds": variant.seeds}, sort_keys=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _gflop(recipe: Recipe) -> float:
    passes = 2 if recipe.synthesis.flips else 1
    return passes * forward_flops(recipe.network, rows=REFERENCE_PIXELS, columns=REFERENCE_PIXELS) / 1e9
