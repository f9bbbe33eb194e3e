"""What is each choice of a recipe worth? Cross-validated by patient, on training patients only.

The recipe's own test patients are left out before anything is done, so nothing that is decided here has seen them.
Every choice is trained once a fold and measured on the fold's patients with the weights of its last epoch: nothing is
chosen on those it is measured on.
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
from lib.experiments.ablation_variants import REFERENCE, Choice
from lib.files import write_text
from lib.learning.checkpoint import load_checkpoint
from lib.learning.dataset import split_pairs
from lib.learning.model_card.card import data_digest
from lib.learning.recipe import Recipe, SynthesisConfig, load_recipe
from lib.learning.training import train
from lib.learning.validation import fit_prepared_baselines, synthesize_prepared
from lib.metrics.agreement import group_by_patient
from lib.metrics.baselines import BASELINE_NAMES
from lib.metrics.image import measure_slices
from lib.metrics.uptake import measure_uptake
from lib.metrics.verdict import Metrics
from lib.networks.cascade import Cascade, forward_flops
from lib.networks.precision import choose_device
from lib.pairing.prepared import PairArrays, Preparation, PreparedSet
from lib.pairing.split import Side, Split
from lib.types import FloatArray, Progress, no_progress, partial_progress

FOLDS_SALT = "folds"
STUDIES_FILE = "studies.sha256"
REFERENCE_PIXELS = 256  # rows and columns that FLOPs are stated for
MEASURED = ("mae_suv_body", "psnr_db_body", "ssim_body", "correlation_body", "tumour_suv_mean_error")

PatientMetrics = Mapping[str, Metrics]  # by patient


@dataclass(frozen=True)
class Result:
    """One choice, measured.

    Attributes:
        gflop: Of one 256 x 256 slice: all stages, flips and seeds.
        model: Metrics of each patient that was held out in some fold.
        learners: How many patients each network was trained on, mean over folds.
    """

    choice: Choice
    gflop: float
    model: PatientMetrics
    learners: float = math.nan


@dataclass(frozen=True)
class Ablation:
    """Every choice that was measured, the reference first, and the trivial predictors on the same patients."""

    results: tuple[Result, ...]
    baselines: Mapping[str, PatientMetrics]


def run_ablation(
    prepared_for: Callable[[Preparation], PreparedSet],
    recipe: str,
    settings: Sequence[str],
    choices: Sequence[Choice],
    out: Path,
    *,
    folds: int = 4,
    only: Sequence[int] = (),
    device: str = "auto",
    progress: Progress = no_progress,
) -> Ablation:
    """Train and measure the reference and every choice in every fold; what is finished is not done again.

    Args:
        prepared_for: Gives the arrays of a preparation; those of a test patient of the recipe are never opened.
        recipe: Name or file of the reference.
        settings: On top of it, for the reference and all choices: smaller pixels, fewer epochs.
        choices: What to compare.
        out: Folder; each training is a run in `runs/`, each measurement a file in `figures/`.
        folds: How many parts the patients are cut into by their hash.
        only: Which folds to do, 0 to folds - 1 (several machines may share the work); all when empty.
        device: As for training.
        progress: Told all along.

    Raises:
        RecipeError: A setting that does not exist, or folds that do not.
        PreparedDataError: Nobody to train on or to measure, or `out` holds figures of other studies.
    """
    wanted = tuple(only) or tuple(range(folds))
    if folds < 2 or not all(0 <= fold < folds for fold in wanted):
        raise RecipeError(f"folds are 0 to {folds - 1} of at least 2, found {list(wanted)} of {folds}")
    everything = (Choice(REFERENCE, REFERENCE), *choices)
    recipes = {one.name: load_recipe(recipe, settings=(*settings, *one.settings)) for one in everything}
    results: list[Result] = []
    baselines: dict[str, dict[str, Metrics]] = {name: {} for name in BASELINE_NAMES}
    done = 0
    for choice in everything:
        of_patient: dict[str, Metrics] = {}
        trained_on: list[int] = []
        chosen = recipes[choice.name]
        learners = _without_test(prepared_for(chosen.preparation), chosen)
        _refuse_other_studies(learners, out)
        for fold in wanted:
            tell = partial_progress(
                progress, done, len(everything) * len(wanted), f"{choice.name}, fold {fold + 1} of {folds}"
            )
            of_fold = replace(chosen, split=_fold(chosen.split, fold, folds))
            trained_on.append(choice.patients or len(split_pairs(learners, of_fold.split).patients(Side.TRAIN)))
            of_patient |= _figures(learners, of_fold, choice, out, device=device, progress=tell)
            if choice.name == REFERENCE:
                for name, figures in _of_baselines(learners, of_fold).items():
                    baselines[name] |= figures
            done += 1
        results.append(Result(choice, choice.seeds * _gflop(chosen), of_patient, float(np.mean(trained_on))))
    return Ablation(tuple(results), baselines)


def _fold(split: Split, fold: int, folds: int) -> Split:
    """Return the split whose test side is one fold; another salt, as the recipe's own left a gap in its circle."""
    return replace(split, test=1 / folds, validation=0.0, offset=fold / folds, salt=f"{split.salt} {FOLDS_SALT}")


def _without_test(prepared: PreparedSet, recipe: Recipe) -> PreparedSet:
    pairs = tuple(pair for pair in prepared.pairs if recipe.split.side_of_patient(pair.patient_id) is not Side.TEST)
    if recipe.split.unit != "patient":
        raise RecipeError("an ablation divides by patient; set split.unit = patient")
    return replace(prepared, pairs=pairs)


def _refuse_other_studies(prepared: PreparedSet, out: Path) -> None:
    path, digest = out / STUDIES_FILE, data_digest(prepared.pairs)
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, digest)
    elif path.read_text() != digest:
        raise PreparedDataError(f"{out}: holds figures of other studies than these; choose another folder")


def _figures(
    prepared: PreparedSet, recipe: Recipe, choice: Choice, out: Path, *, device: str, progress: Progress
) -> PatientMetrics:
    path = out / "figures" / f"{_digest(recipe, choice)}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    sides = split_pairs(prepared, recipe.split)
    if not sides.test:
        raise PreparedDataError("a fold has nobody to measure on; choose fewer folds or give more patients")
    learners = _first_patients(prepared, recipe, choice.patients)
    networks = [
        _trained(learners, replace(recipe, seed=recipe.seed + seed), choice, out, device=device, progress=progress)
        for seed in range(choice.seeds)
    ]
    measured = []
    for pair, indices in sides.test:
        arrays = prepared.arrays(pair)
        drawn = [
            synthesize_prepared(network, arrays, indices, recipe, device=choose_device(device)) for network in networks
        ]
        measured.append((pair.patient_id, _measure(np.mean(drawn, axis=0), arrays)))
    figures = mean_over_pairs(measured)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures))
    return figures


def _trained(
    prepared: PreparedSet, recipe: Recipe, choice: Choice, out: Path, *, device: str, progress: Progress
) -> Cascade:
    asked = replace(recipe, synthesis=SynthesisConfig())  # how a network is asked does not change how it learns
    run = out / "runs" / _digest(asked, replace(choice, seeds=1))
    result = train(prepared, asked, run, resume=True, device=device, progress=progress)
    for resumable in run.glob("resume_*.pt"):
        resumable.unlink()  # many runs, and finished ones are never resumed
    return load_checkpoint(result.model, device=choose_device(device))[0]


def _first_patients(prepared: PreparedSet, recipe: Recipe, count: int) -> PreparedSet:
    """Return the set with only `count` of the fold's training patients, the first by their hash; 0 takes all."""
    if not count:
        return prepared
    on_train = [p for p in prepared.patients() if recipe.split.side_of_patient(p) is Side.TRAIN]
    ordered = sorted(on_train, key=lambda patient: hashlib.sha256(f"curve/{patient}".encode()).hexdigest())
    if count > len(ordered):
        raise PreparedDataError(f"{count} training patients are asked for, this fold has {len(ordered)}")
    left_out = set(ordered[count:])
    return replace(prepared, pairs=tuple(pair for pair in prepared.pairs if pair.patient_id not in left_out))


def _of_baselines(prepared: PreparedSet, recipe: Recipe) -> Mapping[str, PatientMetrics]:
    sides = split_pairs(prepared, recipe.split)
    baselines = fit_prepared_baselines(prepared, sides.train)
    measured: dict[str, list[tuple[str, Metrics]]] = {name: [] for name in BASELINE_NAMES}
    for pair, _ in sides.test:
        arrays = prepared.arrays(pair)
        for name in BASELINE_NAMES:
            guess = baselines.predict(name, arrays.ct_hu(), arrays.body())
            measured[name].append((pair.patient_id, _measure(guess, arrays)))
    return {name: mean_over_pairs(of) for name, of in measured.items()}


def mean_over_pairs(measured: Sequence[tuple[str, Metrics]]) -> PatientMetrics:
    """Return each patient's figures, given each pair's and whose it is; of several pairs, the mean of those defined."""
    return {
        patient_id: {
            name: float(np.mean([figures[name] for figures in of if name in figures]))
            for name in MEASURED
            if any(name in figures for figures in of)
        }
        for patient_id, of in group_by_patient(measured).items()
    }


def _measure(drawn: FloatArray, arrays: PairArrays) -> Metrics:
    """Return the figures of one volume; those that are not defined are left out."""
    real, body, measured = arrays.suv_bw(), arrays.body(), arrays.measured()
    metrics = measure_slices(drawn, real, body, measured=measured, groups=frozenset({"ssim"}))
    figures = {name: float(getattr(metrics, name)) for name in MEASURED if hasattr(metrics, name)}
    tumour = arrays.tumour()
    if tumour.any():
        means = [
            measure_uptake(suv, tumour, spacing_mm=arrays.pair.spacing_mm, measured=measured).suv_mean
            for suv in (drawn, real)
        ]
        figures["tumour_suv_mean_error"] = means[0] - means[1]
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _digest(recipe: Recipe, choice: Choice) -> str:
    canonical = json.dumps(
        {**asdict(replace(recipe, name="")), "patients": choice.patients, "seeds": choice.seeds}, sort_keys=True
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _gflop(recipe: Recipe) -> float:
    passes = 2 if recipe.synthesis.flips else 1
    return passes * forward_flops(recipe.network, rows=REFERENCE_PIXELS, columns=REFERENCE_PIXELS) / 1e9
