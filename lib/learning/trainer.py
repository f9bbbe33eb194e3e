"""The training loop: MONAI's supervised trainer with ignite's handlers for averaged weights and resumption."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from monai.engines import IterationEvents, SupervisedTrainer
from torch import Tensor, nn

from lib.errors import TrainingError
from lib.learning.augment import augment
from lib.learning.dataset import PairsBySide, ShardSampler, SliceDataset, training_loader
from lib.learning.distributed import average_batch_norm, from_first, mean_over_processes, warn_of_small_batches
from lib.learning.ema import attach_ema, make_ema, recompute_batch_norm
from lib.learning.losses import cascade_loss
from lib.learning.optimisation import learning_rate, make_optimiser
from lib.learning.recipe import Recipe
from lib.learning.resume_file import KEPT_RESUME_FILES, PREFIX, newest_state
from lib.learning.run_state import Outcome, RunState
from lib.learning.tracking.metrics_log import record_epoch
from lib.learning.tracking.progress import KEY_METRIC, EpochRecord, RunLog, cut_history
from lib.learning.validation import validate
from lib.networks.cascade import Cascade
from lib.networks.precision import autocast
from lib.pairing.prepared import PreparedSet
from lib.types import Progress

logger = logging.getLogger(__name__)

CLOCK_INTERVAL_STEPS = 4  # between checks of the time limit, which may end within an epoch
STATISTICS_SLICES = 256  # of the last epoch; forward only: about 6 % of an epoch of 1,435 slices
EPOCH_STATISTICS_SLICES = 96  # of others: body MAE 0.506 instead of 0.503 SUV in six validation patients


class Trainer:
    """A run in one process: builds its parts, resumes from the newest resume file if there is one, and trains."""

    def __init__(
        self,
        cascade: Cascade,
        prepared: PreparedSet,
        sides: PairsBySide,
        recipe: Recipe,
        run: Path,
        *,
        device: torch.device,
        keep_best: Callable[[Cascade, int], None],
        progress: Progress,
        after_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        self.cascade, self.prepared, self.sides, self.recipe, self.run = cascade, prepared, sides, recipe, run
        self.device, self.keep_best, self.progress = device, keep_best, progress
        self.after_epoch = after_epoch  # called when an epoch has been saved
        self.state = RunState()
        self.network: nn.Module = cascade
        if idist.get_world_size() > 1:
            self.network = nn.parallel.DistributedDataParallel(
                cascade, device_ids=[device.index] if device.type == "cuda" else None
            )
        self.optimiser = make_optimiser(cascade, recipe)
        dataset = SliceDataset(prepared, sides.train, recipe)
        self.sampler = ShardSampler(dataset, recipe, rank=idist.get_rank(), world_size=idist.get_world_size())
        if idist.get_world_size() > 1 and recipe.network.normalization == "batch":
            warn_of_small_batches(self.sampler.batch_size)
        self.loader = training_loader(dataset, self.sampler, recipe, pin=device.type == "cuda")
        self.trainer = SupervisedTrainer(
            device=device,
            max_epochs=recipe.schedule.epochs,
            train_data_loader=self.loader,
            network=self.network,
            optimizer=self.optimiser,
            loss_function=self._loss,
            prepare_batch=self._prepare_batch,
            inferer=self._forward,
            decollate=False,
            optim_set_to_none=True,
        )
        self.averaged = make_ema(cascade, recipe.ema_decay)
        self.log = RunLog(run) if idist.get_rank() == 0 else None
        self._process_began = time.time()
        self._epoch_began = time.time()
        self._loss_sum = torch.zeros((), device=device)
        self._steps = 0  # of this epoch
        self._saver = Checkpoint(
            self._resumable(),
            DiskSaver(str(run), create_dir=True, require_empty=False),
            filename_prefix=PREFIX,
            n_saved=KEPT_RESUME_FILES,
            global_step_transform=lambda engine, _: engine.state.epoch,
        )
        self._attach()

    def __call__(self) -> Outcome:
        """Train until the limit of epochs, patience or minutes is reached."""
        self._resume()
        if self.state.epoch < self.recipe.schedule.epochs and not self.state.stopped_because:
            try:
                self.trainer.run()
            finally:
                if self.log is not None:
                    self.log.close()
        because = self.state.stopped_because or f"all {self.recipe.schedule.epochs} epochs are done"
        return Outcome(self.state.epoch, self.state.best_epoch, because)

    # -- called by MONAI's trainer -----------------------------------------------------------------------------------

    def _prepare_batch(
        self, batch: tuple[Tensor, Tensor, Tensor], device: torch.device, non_blocking: bool, **_: Any
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        ct, pet, regions = (array.to(device, non_blocking=non_blocking) for array in batch)
        return self._augmented(ct, pet, regions, step=self.trainer.state.iteration)

    def _augmented(self, *batch: Tensor, step: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        seeds = np.random.SeedSequence([self.recipe.seed, step, idist.get_rank()])
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0]) >> 1)
        ct, pet, regions = augment(*batch, config=self.recipe.batches, generator=generator)
        return ct.contiguous(memory_format=torch.channels_last), (pet, regions)

    def _forward(self, ct: Tensor, network: nn.Module) -> list[Tensor]:
        with autocast(self.device, self.recipe.precision):
            stages: list[Tensor] = network(ct)
        return stages

    def _loss(self, stages: list[Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        pet, regions = target
        return cascade_loss(stages, pet, regions, config=self.recipe.loss, mean_total=mean_over_processes)

    # -- handlers ----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        trainer = self.trainer
        trainer.add_event_handler(Events.EPOCH_STARTED, self._on_epoch_started)
        trainer.add_event_handler(Events.ITERATION_STARTED, self._set_learning_rate)
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip_gradient)
        if self.averaged is not None:
            attach_ema(self.averaged, trainer)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._on_iteration_completed)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._on_epoch_completed)

    def _on_epoch_started(self, engine: Engine) -> None:
        self.sampler.set_epoch(engine.state.epoch)
        self._epoch_began = time.time()
        self._loss_sum.zero_()
        self._steps = 0

    def _set_learning_rate(self, engine: Engine) -> None:
        rate = learning_rate(
            self.recipe,
            epochs_done=(engine.state.iteration - 1) / len(self.loader),
            minutes_done=self._seconds_for_all() / 60 if self.recipe.schedule.max_minutes else 0.0,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _clip_gradient(self, _: Engine) -> None:
        if self.recipe.optimiser.clip_norm:
            nn.utils.clip_grad_norm_(self.cascade.parameters(), self.recipe.optimiser.clip_norm)

    def _on_iteration_completed(self, engine: Engine) -> None:
        self._loss_sum += engine.state.output["loss"].detach()
        self._steps += 1
        if self._steps % CLOCK_INTERVAL_STEPS == 0 and self._is_out_of_time():
            engine.terminate_epoch()  # it is validated like a full epoch, and its weights may be the best
        steps = self.recipe.schedule.epochs * len(self.loader)
        status = f"epoch {engine.state.epoch} of {self.recipe.schedule.epochs}{self.state.summary()}"
        self.progress(engine.state.iteration, steps, status)

    def _on_epoch_completed(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        loss = float(idist.all_reduce(self._loss_sum / self._steps) / idist.get_world_size())
        if not math.isfinite(loss):
            raise TrainingError(
                f"epoch {epoch}: the loss is {loss}; lower optimiser.learning_rate "
                f"({self.recipe.optimiser.learning_rate}) or set optimiser.clip_norm, then start again",
                code="training_diverged",
                epoch=epoch,
                learning_rate=self.recipe.optimiser.learning_rate,
            )
        evaluated = self.averaged.ema_model if self.averaged is not None else self.cascade
        self.state.epoch, self.state.loss = epoch, loss
        is_out_of_time, metrics = self._is_out_of_time(), {}
        if self._is_evaluated(epoch, is_out_of_time=is_out_of_time):
            is_last = is_out_of_time or epoch >= self.recipe.schedule.epochs
            self._recompute_batch_norm(evaluated, STATISTICS_SLICES if is_last else EPOCH_STATISTICS_SLICES)
            metrics = validate(evaluated, self.prepared, self.sides, self.recipe, device=self.device)
            self._keep_best(evaluated, epoch, metrics.get(KEY_METRIC))
        self._decide_to_stop(epoch, is_out_of_time=is_out_of_time)
        if self.log is not None:
            recorded = record_epoch(evaluated, self.prepared, self.sides, self.recipe, device=self.device)
            record = EpochRecord(
                epoch, loss, self.optimiser.param_groups[0]["lr"], time.time() - self._epoch_began, metrics, recorded
            )
            self.log.epoch(record, self.state.status(self.recipe.schedule, seconds=self._seconds()))
            self._save_resume_file(engine)
        self.after_epoch()
        idist.barrier()
        if self.state.stopped_because:
            engine.terminate()

    def _recompute_batch_norm(self, network: nn.Module, slices: int) -> None:
        """Recompute the batch-norm statistics for the current weights from some slices, the same in every process."""
        inputs = (
            self._augmented(*(array.to(self.device) for array in batch), step=step)[0]
            for step, batch in enumerate(islice(self.loader, math.ceil(slices / self.recipe.batches.size)))
        )
        with autocast(self.device, self.recipe.precision):
            recompute_batch_norm(network, inputs)
        average_batch_norm(network)

    # -- decisions ---------------------------------------------------------------------------------------------------

    def _is_evaluated(self, epoch: int, *, is_out_of_time: bool) -> bool:
        """Return whether the weights of an epoch are measured or kept: without validation patients, the last ones."""
        schedule = self.recipe.schedule
        return bool(self.sides.validation or schedule.record_slices) or is_out_of_time or epoch >= schedule.epochs

    def _keep_best(self, cascade: nn.Module, epoch: int, metric: float | None) -> None:
        """Save the weights if the validation metric is the best so far; without validation patients, always."""
        if self.sides.validation and metric is not None and not metric > self.state.best_metric:
            return
        self.state.best_epoch = epoch
        self.state.best_metric = metric if metric is not None else -math.inf
        if idist.get_rank() == 0:
            self.keep_best(cascade, epoch)  # type: ignore[arg-type]

    def _decide_to_stop(self, epoch: int, *, is_out_of_time: bool) -> None:
        schedule = self.recipe.schedule
        because = ""
        if schedule.patience and self.sides.validation and epoch - self.state.best_epoch >= schedule.patience:
            because = f"no better {KEY_METRIC} for {schedule.patience} epochs"
        if is_out_of_time:
            because = f"the limit of {schedule.max_minutes:g} minutes is reached"
        self.state.stopped_because = because

    def _is_out_of_time(self) -> bool:
        minutes = self.recipe.schedule.max_minutes
        return bool(minutes) and self._seconds_for_all() >= minutes * 60

    # -- resumption --------------------------------------------------------------------------------------------------

    def _resumable(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "trainer": self.trainer,
            "network": self.cascade,
            "optimiser": self.optimiser,
            "state": self.state,
        }
        if self.averaged is not None:
            parts["averaged"] = self.averaged.ema_model
        return parts

    def _save_resume_file(self, engine: Engine) -> None:
        self.state.seconds, self._process_began = self._seconds(), time.time()
        try:
            self._saver(engine)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            raise TrainingError(
                f"{self.run}: epoch {engine.state.epoch} cannot be saved ({str(error).splitlines()[0]}); free space "
                "and resume, the epoch before it is kept",
                code="write_failed",
            ) from error

    def _resume(self) -> None:
        saved = from_first(partial(newest_state, self.run))
        if saved is not None:
            Checkpoint.load_objects(self._resumable(), saved)
            # of this number of processes, which determines the batches of an epoch
            self.trainer.state.epoch_length = len(self.loader)
            self.trainer.state.iteration = self.state.epoch * len(self.loader)
            logger.info("resuming after epoch %d", self.state.epoch)
        if idist.get_rank() == 0:
            cut_history(self.run, after_epoch=self.state.epoch)

    def _seconds(self) -> float:
        return self.state.seconds + time.time() - self._process_began

    def _seconds_for_all(self) -> float:
        """Return the time of the first process, so that all processes use the same learning rate."""
        return float(idist.broadcast(self._seconds(), src=0))
