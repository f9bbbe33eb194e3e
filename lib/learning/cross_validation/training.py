"""Train on all patients: one network per fold, each without one or two folds; the model is their ensemble.

Every patient is judged by the networks that were not trained on them, with the weights of the last epoch and a lookup
weight that the other folds chose: nothing is selected on the patients that the model card's scores are computed on. New
patients get the mean of all networks.
Arrays of a fold's patients are not even given to the training of its network. Several machines that share the folder of
a run can train its networks together: each takes those that no other is training, and the first to be ready writes the
ensemble, which does not depend on who trained what. A run has a folder::

    RUN/recipe.json  folds.json            recipe; fold of every patient, and how many each network is trained without
    RUN/folds/<k>/                         an ordinary run each
    RUN/out-of-fold/<pair>.npy             PET of every patient from those networks, SUVbw
    RUN/model.safetensors                  the ensemble with its complete card; it exists once a run is finished
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from lib.errors import RecipeError, TrainingError
from lib.files import write_text
from lib.learning.aligned_slices import aligned_training
from lib.learning.checkpoint import load_checkpoint, read_card, save_checkpoint
from lib.learning.cross_validation.folds import DEFAULT_FOLDS, assign_folds, folds_left_out, trains_on
from lib.learning.cross_validation.out_of_fold import predict_out_of_fold
from lib.learning.dataset import PairsBySide, split_pairs
from lib.learning.distributed import from_first
from lib.learning.familiarity.prepared_profiles import fit_prepared_reference
from lib.learning.member_processes import MemberTraining, plan_processes, train_members
from lib.learning.model_card.card import ModelCard, TrainingData, patient_digest
from lib.learning.model_card.creation import new_card
from lib.learning.organs import fit_card_organs
from lib.learning.recipe import Recipe
from lib.learning.run_lock import hold_run
from lib.learning.tracking.options import Tracking
from lib.learning.tracking.progress import MEMBERS_FOLDER
from lib.learning.training import (
    MODEL_FILE,
    TrainingResult,
    begin_run,
    finished_run,
    training_process,
)
from lib.learning.validation import fit_prepared_baselines
from lib.networks.ensemble import combine, member
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.types import Progress, no_progress

logger = logging.getLogger(__name__)

FOLDS_FILE = "folds.json"
MIN_PATIENTS_PER_FOLD = 2
MIN_FOLDS = 5  # unless fewer are requested: each network then misses a fifth of the patients at most
SEED_STEP = 1000  # between the seeds of the members: equal initial weights would make equal errors


def train_cross_validated(
    prepared: PreparedSet,
    recipe: Recipe,
    run: Path,
    *,
    folds: int = DEFAULT_FOLDS,
    resume: bool = False,
    initial: Path | None = None,
    name: str | None = None,
    device: str = "auto",
    processes: int = 0,
    tracking: Tracking | None = None,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train one network per fold and return their ensemble; with `torchrun`, as `train`.

    Networks that another process is training in the same folder are left to it; the function returns when all are done.

    Args:
        prepared: Arrays of all patients; all are used, whatever the split of the recipe says.
        recipe: The recipe of every network. Patience does not apply, and a time limit is shared equally.
        run: Folder of the run.
        folds: Number of folds, and of networks.
        resume: Continue an interrupted run; a finished run is returned unchanged.
        initial: Checkpoint of an ensemble of as many members to start from. Its patients keep their folds, so that no
            network starts from weights that were trained on the patients it is judged by.
        name, device, tracking, progress: As of `train`; each fold is tracked as a run.
        processes: Networks that are trained at once; 0 for as many as there are processors or GPUs, one with tracking.

    Raises:
        TrainingError, PreparedDataError, RecipeError: As of `train`; or fewer patients than folds, a split by slice,
            or initial weights of other folds.
    """
    if recipe.split.unit != "patient":
        raise RecipeError("cross-validation splits by patient; set split.unit = patient")
    with training_process(run, device) as torch_device:
        with hold_run(run, timeout_s=-1):
            result = from_first(partial(finished_run, run)) if resume else None
            if result is not None:
                return result
            fold_of, left_out = _begin(prepared, recipe, run, folds, initial, resume=resume)
        trainings = [
            MemberTraining(
                f"network {fold + 1} of {folds}",
                prepared.only(
                    patient for patient, of in fold_of.items() if trains_on(fold, of, folds=folds, left_out=left_out)
                ),
                fold_recipe(recipe, fold, folds), _member_run(run, fold), dict.fromkeys(fold_of, Side.TRAIN),
                initial=None if initial is None else from_first(partial(_member_file, initial, run, fold)),
                name=name, tracking=tracking,
            )
            for fold in range(folds)
        ]  # fmt: skip
        plan = plan_processes(device, trainings=folds, processes=1 if tracking else processes)
        trained = train_members(trainings, plan=plan, progress=progress)
        epochs = max(one.epochs for one in trained)
        publish = partial(_published, name=name, device=torch_device, progress=progress)
        with hold_run(run, timeout_s=-1):
            card = from_first(partial(publish, prepared, recipe, run, fold_of, left_out))
        return TrainingResult(run / MODEL_FILE, card, epochs, f"all {folds} networks are trained")


def fold_recipe(recipe: Recipe, fold: int, folds: int) -> Recipe:
    """Return the recipe of one network: its own seed, its share of the time, and no selection of weights."""
    schedule = replace(recipe.schedule, patience=0, max_minutes=recipe.schedule.max_minutes / folds)
    return replace(recipe, seed=recipe.seed + SEED_STEP * fold, schedule=schedule)


def _begin(
    prepared: PreparedSet, recipe: Recipe, run: Path, folds: int, initial: Path | None, *, resume: bool
) -> tuple[dict[str, int], int]:
    """Begin or resume a run; return the fold of every patient, and the number of folds each network leaves out."""
    fold_of, left_out = from_first(partial(_assigned, prepared, run / FOLDS_FILE, folds, initial, resume=resume))
    sides = _all_patients(prepared, recipe, fold_of)
    begin_run(prepared, recipe, run, sides, resume=resume)
    written = json.dumps({"left_out": left_out, "folds": fold_of}, indent=1)
    from_first(partial(write_text, run / FOLDS_FILE, written))
    return fold_of, left_out


def _assigned(
    prepared: PreparedSet, folds_file: Path, folds: int, initial: Path | None, *, resume: bool
) -> tuple[dict[str, int], int]:
    if resume and folds_file.is_file():
        begun = json.loads(folds_file.read_text())
        return begun["folds"], begun["left_out"]
    if initial is None:
        return assign_folds(prepared, folds), folds_left_out(folds)
    earlier = _earlier_training(initial, folds)
    return assign_folds(prepared, folds, known=earlier.folds), earlier.folds_left_out


def _earlier_training(initial: Path, folds: int) -> TrainingData:
    cascade, card = load_checkpoint(initial)
    if cascade.config.members != folds or not card.training.folds:
        raise TrainingError(
            f"{initial}: holds {cascade.config.members} network(s), expected one for each of {folds} folds; start "
            "without it"
        )
    return card.training


def _member_file(initial: Path, run: Path, fold: int) -> Path:
    """Write the initial weights of one network, and return the file."""
    cascade, card = load_checkpoint(initial)
    single = member(cascade, fold)
    card = replace(card, network=single.config, recipe=replace(card.recipe, network=single.config))
    return save_checkpoint(_member_run(run, fold) / "initial.safetensors", single, card)


def _member_run(run: Path, fold: int) -> Path:
    return run / MEMBERS_FOLDER / str(fold)


def _all_patients(prepared: PreparedSet, recipe: Recipe, fold_of: Mapping[str, int]) -> PairsBySide:
    sides = split_pairs(prepared, recipe.split, dict.fromkeys(fold_of, Side.TRAIN))
    return aligned_training(sides, max_shift_mm=recipe.alignment.max_shift_mm)


def _published(
    prepared: PreparedSet,
    recipe: Recipe,
    run: Path,
    fold_of: Mapping[str, int],
    left_out: int,
    *,
    name: str | None,
    device: torch.device,
    progress: Progress,
) -> ModelCard:
    """Write the ensemble unless another process has, and return its card."""
    if (run / MODEL_FILE).is_file():
        return read_card(run / MODEL_FILE)
    folds = sorted(set(fold_of.values()))
    loaded = [load_checkpoint(_member_run(run, fold) / MODEL_FILE, device=device) for fold in folds]
    networks = [cascade for cascade, _ in loaded]
    ensemble = combine(networks)
    sides = _all_patients(prepared, recipe, fold_of)
    card = new_card(
        replace(recipe, network=ensemble.config), sides, epoch=max(card.epoch for _, card in loaded), name=name
    )
    digests = {patient_digest(patient): fold for patient, fold in fold_of.items()}
    training = replace(card.training, folds=digests, folds_left_out=left_out)
    predicted = predict_out_of_fold(
        prepared, recipe, networks, fold_of, training, run, device=device, progress=progress
    )
    calibration, intervals = predicted.calibration(), predicted.intervals()
    card = replace(
        card,
        training=training,
        scores=predicted.scores(device=device),
        baselines=fit_prepared_baselines(prepared, sides.train).to_json(),
        familiarity=fit_prepared_reference(ensemble, prepared, sides.train, device=device).to_json(),
        fold_baselines=tuple(baselines.to_json() for baselines in predicted.baselines),
        organ_baseline=fit_card_organs(prepared, sides.train),
        lookup_weight=predicted.weight,
        calibration=None if calibration is None else calibration.to_json(),
        intervals=None if intervals is None else intervals.to_json(),
    )
    save_checkpoint(run / MODEL_FILE, ensemble, card)
    logger.info("saved %s", run / MODEL_FILE)
    return read_card(run / MODEL_FILE)
