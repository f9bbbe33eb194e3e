"""Train a cascade on prepared arrays: train, keep the best weights, evaluate them, write one checkpoint.

`train` is used by the command line, the MONAI Label app and `torchrun`. A run has a folder, which only the
first process reads and writes::

    RUN/recipe.json  split.json            recipe, and the patients on each side
    RUN/resume_<epoch>.pt                  state to resume from; the last two epochs
    RUN/best.safetensors                   best weights so far
    RUN/model.safetensors                  the finished model with its complete card; it exists once a run is finished
    RUN/train_stats.json  history.jsonl  tensorboard/
    RUN/tracking.json  mlflow/             with MLflow tracking
    RUN/run.lock                           held while a training uses the folder
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import ignite.distributed as idist
import torch
from torch import Tensor

from lib.errors import TrainingError
from lib.files import write_text
from lib.learning.aligned_slices import aligned_training
from lib.learning.checkpoint import load_checkpoint, read_card, save_checkpoint
from lib.learning.dataset import PairsBySide, split_pairs
from lib.learning.distributed import device_of_this_process, from_first, join_processes, require_same
from lib.learning.familiarity.prepared_profiles import fit_prepared_reference
from lib.learning.model_card.card import ModelCard
from lib.learning.model_card.creation import model_name, new_card
from lib.learning.organs import fit_card_organs
from lib.learning.recipe import Recipe, recipe_from_mapping
from lib.learning.run_lock import hold_run
from lib.learning.tracking.mlflow_logger import mlflow_run
from lib.learning.tracking.options import Tracking
from lib.learning.tracking.progress import read_history
from lib.learning.trainer import Trainer
from lib.learning.validation import fit_prepared_baselines, fit_prepared_calibration, fit_prepared_intervals, score
from lib.networks.cascade import Cascade, NetworkConfig
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import SPLIT_SIDES, Side
from lib.types import Progress, no_progress

logger = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
RECIPE_FILE = "recipe.json"
SPLIT_FILE = "split.json"


@dataclass(frozen=True)
class TrainingResult:
    """Result of a finished run.

    Attributes:
        model: Path of the checkpoint.
        card: Its model card, with the scores of the model and the baselines.
        epochs: Number of finished epochs.
        stopped_because: Why training ended: all epochs, patience, or time limit.
    """

    model: Path
    card: ModelCard
    epochs: int
    stopped_because: str


def train(
    prepared: PreparedSet,
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    initial: Path | None = None,
    name: str | None = None,
    device: str = "auto",
    tracking: Tracking | None = None,
    assigned: Mapping[str, Side] | None = None,
    progress: Progress = no_progress,
) -> TrainingResult:
    """Train a model and return the result. With `torchrun`, every process calls this with the same arguments.

    Args:
        prepared: Arrays prepared with the recipe's grid and windows.
        recipe: The recipe.
        run: Folder of the run.
        resume: Continue an interrupted run; a finished run is returned unchanged.
        initial: Checkpoint with initial weights; its network must be the recipe's.
        name: Name of the model; the recipe's name and the number of stages if not given.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        tracking: Log the run to MLflow; an unreachable server is reported, and training continues.
            `configure_mlflow_process` sets short timeouts and disables telemetry.
        assigned: Permanent sides of patients, which override the split of the recipe; ignored with a split by slice.
        progress: Called after every step with steps done, total steps and the status.

    Raises:
        TrainingError: The folder has another run, or another training uses it; the loss is not finite; the disk is
            full; the processes have different recipes or arrays.
        PreparedDataError: Arrays of another grid or windows, or no training patients.
        RecipeError: Unknown device.
    """
    with training_process(run, device) as torch_device, hold_run(run):
        begun = from_first(partial(_begun_sides, run)) if resume else {}  # a resumed run keeps its sides
        sides = aligned_training(
            split_pairs(prepared, recipe.split, {**(assigned or {}), **begun}),
            max_shift_mm=recipe.alignment.max_shift_mm,
        )
        begin_run(prepared, recipe, run, sides, resume=resume)
        first = idist.get_rank() == 0
        with mlflow_run(tracking if first else None, run, recipe, name=model_name(recipe, name)) as mlflow_logger:
            result = from_first(partial(finished_run, run)) if resume else None
            if result is None:
                result = _train(
                    prepared, recipe, run, sides, initial=initial, name=name, device=torch_device, progress=progress,
                    after_epoch=_nothing if mlflow_logger is None else mlflow_logger.log_epoch,
                )  # fmt: skip
            if mlflow_logger is not None:
                mlflow_logger.finish(result.card)
            return result


@contextmanager
def training_process(run: Path, device: str) -> Iterator[torch.device]:
    """Join the process group of torchrun, if there is one, and yield the device of this process.

    Raises:
        TrainingError: The folder of the run cannot be written.
        RecipeError: Unknown device.
    """
    started_group = join_processes(device)
    try:
        yield device_of_this_process(device)  # before the run begins, since the name may be invalid
    except OSError as error:
        raise TrainingError(
            f"{run}: cannot be written ({error}); free space and resume, what was finished is kept", code="write_failed"
        ) from error
    finally:
        if started_group:
            idist.finalize()


def _train(
    prepared: PreparedSet,
    recipe: Recipe,
    run: Path,
    sides: PairsBySide,
    *,
    initial: Path | None,
    name: str | None,
    device: torch.device,
    progress: Progress,
    after_epoch: Callable[[], None],
) -> TrainingResult:
    torch.manual_seed(recipe.seed)
    cascade = Cascade(recipe.network)
    if initial is not None:
        cascade.load_state_dict(from_first(partial(_initial_weights, initial, cascade.config)))
    cascade = cascade.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def keep_best(best: Cascade, epoch: int) -> None:
        """Save the best weights so far in the folder of the run."""
        save_checkpoint(run / BEST_FILE, best, new_card(recipe, sides, epoch=epoch, name=name))

    trainer = Trainer(
        cascade, prepared, sides, recipe, run,
        device=device, keep_best=keep_best, progress=progress, after_epoch=after_epoch,
    )  # fmt: skip
    outcome = trainer()
    card = from_first(partial(_publish, prepared, recipe, run, sides, device=device))
    return TrainingResult(run / MODEL_FILE, card, outcome.epochs, outcome.stopped_because)


def finished_run(run: Path) -> TrainingResult | None:
    """Return the result of a finished run; None before."""
    if not (run / MODEL_FILE).is_file():
        return None
    card = read_card(run / MODEL_FILE)
    epochs = max((record.epoch for record in read_history(run)), default=card.epoch)
    return TrainingResult(run / MODEL_FILE, card, epochs, "the run was finished before")


def _nothing() -> None:
    """Do nothing after an epoch."""


def begin_run(prepared: PreparedSet, recipe: Recipe, run: Path, sides: PairsBySide, *, resume: bool) -> None:
    """Check the folder of a run, and write the recipe and the patients on each side there.

    Raises:
        TrainingError: The arrays are of another grid or windows; the folder holds another run, or one to resume; the
            processes have different recipes or arrays.
    """
    require_same("recipes", recipe)
    require_same("arrays", (prepared.preparation, prepared.pairs))
    if recipe.network.members > 1:
        raise TrainingError(
            f"network.members is {recipe.network.members}, but one network is trained at a time; cross-validated "
            "training makes an ensemble"
        )
    if prepared.preparation != recipe.preparation:
        raise TrainingError(
            f"{prepared.root} was prepared with {prepared.preparation}, the recipe {recipe.name} wants "
            f"{recipe.preparation}; prepare again with this recipe",
            code="other_preparation",
        )
    from_first(partial(_begin_folder, recipe, run, sides, resume=resume))


def _begin_folder(recipe: Recipe, run: Path, sides: PairsBySide, *, resume: bool) -> None:
    path = run / RECIPE_FILE
    if path.is_file():
        begun = recipe_from_mapping(json.loads(path.read_text()))
        if not resume:
            raise TrainingError(
                f"{run} holds a run already; resume that run, or choose another folder", code="run_exists"
            )
        if begun != recipe:
            raise TrainingError(
                f"{run} was begun under another recipe; resume with the same settings: {begun.to_json()}",
                code="other_recipe",
            )
    run.mkdir(parents=True, exist_ok=True)
    write_text(path, recipe.to_json())
    split = {side: list(sides.patients(side)) for side in SPLIT_SIDES}
    write_text(run / SPLIT_FILE, json.dumps({**asdict(recipe.split), "patients": split}, indent=1))


def _begun_sides(run: Path) -> dict[str, Side]:
    try:
        patients = json.loads((run / SPLIT_FILE).read_text())["patients"]
        return {patient: side for side in SPLIT_SIDES for patient in patients[side]}
    except (OSError, ValueError, KeyError, TypeError):  # the run has not begun, or was killed at its beginning
        return {}


def _publish(
    prepared: PreparedSet, recipe: Recipe, run: Path, sides: PairsBySide, *, device: torch.device
) -> ModelCard:
    cascade, card = load_checkpoint(run / BEST_FILE, device=device)
    baselines = fit_prepared_baselines(prepared, sides.train)
    side, entries = (Side.VALIDATION, sides.validation) if sides.validation else (Side.TEST, sides.test)
    scores = score(cascade, prepared, entries, recipe, baselines, side=side, device=device) if entries else None
    calibration = fit_prepared_calibration(cascade, prepared, sides.validation, recipe, device=device)
    intervals = fit_prepared_intervals(cascade, prepared, sides.validation, recipe, device=device)
    card = replace(
        card,
        scores=scores,
        baselines=baselines.to_json(),
        calibration=None if calibration is None else calibration.to_json(),
        intervals=None if intervals is None else intervals.to_json(),
        organ_baseline=fit_card_organs(prepared, sides.train),
        familiarity=fit_prepared_reference(cascade, prepared, sides.train, device=device).to_json(),
    )
    save_checkpoint(run / MODEL_FILE, cascade, card)
    logger.info("saved %s", run / MODEL_FILE)
    return read_card(run / MODEL_FILE)


def _initial_weights(initial: Path, expected: NetworkConfig) -> dict[str, Tensor]:
    loaded, _ = load_checkpoint(initial)
    if loaded.config != expected:
        raise TrainingError(f"{initial} holds {loaded.config}, the recipe wants {expected}; start without it")
    return loaded.state_dict()
