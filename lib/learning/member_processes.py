"""Train several networks at once, each in a process of its own.

A small network trains no faster with two threads than with one, so two networks on two processors take half the time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty, Queue
from threading import Event

import ignite.distributed as idist
import torch

from lib.errors import OperationCancelledError, RecipeError, TrainingError
from lib.learning.recipe import Recipe
from lib.learning.run_lock import IN_USE
from lib.learning.tracking.options import Tracking
from lib.learning.training import TrainingResult, train
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.processors import available_processors, end_with_parent
from lib.types import Progress, partial_progress

logger = logging.getLogger(__name__)

POLL_S = 0.5  # how often the progress of the processes is reported
WAIT_S = 10.0  # while other processes, perhaps on other machines, train the last networks
Message = tuple[int, int, int, str]  # index of the training, and the arguments of its progress


@dataclass(frozen=True)
class MemberTraining:
    """One of several trainings; the fields are the arguments of `train`.

    Attributes:
        title: Names it in progress messages.
    """

    title: str
    prepared: PreparedSet
    recipe: Recipe
    run: Path
    assigned: Mapping[str, Side]
    initial: Path | None = None
    name: str | None = None
    tracking: Tracking | None = None


@dataclass(frozen=True)
class ProcessPlan:
    """How many trainings run at once.

    Attributes:
        devices: One for each process that trains at the same time; a single one is used by this process itself.
        threads: Of each process; 0 leaves the default.
    """

    devices: tuple[str, ...]
    threads: int = 0

    @property
    def processes(self) -> int:
        """The number of trainings at a time."""
        return len(self.devices)


def plan_processes(device: str, *, trainings: int, processes: int = 0) -> ProcessPlan:
    """Return how to train: on every GPU one network at a time, on the CPU one for each processor.

    Args:
        device: As of `train`; `auto` uses all GPUs.
        trainings: Number of networks to train.
        processes: At most so many at a time; 0 for as many as there are GPUs or processors. A GPU that is large for
            the network may train several.

    Raises:
        RecipeError: Unknown device, or a negative number of processes.
    """
    if processes < 0:
        raise RecipeError(f"processes must be 0 (as many as there are processors or GPUs) or above, found {processes}")
    chosen = choose_device(device)
    if idist.get_world_size() > 1:  # torchrun's processes share the slices of each network
        return ProcessPlan((device,))
    if chosen.type == "cuda":
        gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 1
        count = min(trainings, processes or gpus)
        return ProcessPlan(tuple(f"cuda:{index % gpus}" for index in range(count)) if gpus > 1 else (device,) * count)
    available = int(os.environ.get("OMP_NUM_THREADS") or available_processors())
    count = min(trainings, processes or available)
    if count <= 1:
        return ProcessPlan((device,))
    return ProcessPlan((device,) * count, max(1, available // count))


def train_members(
    trainings: Sequence[MemberTraining], *, plan: ProcessPlan, progress: Progress
) -> list[TrainingResult]:
    """Train all, or return what was finished before; an interrupted training is resumed.

    Networks that another process is training are left to it; the function returns when all are done.

    Raises:
        TrainingError, PreparedDataError, RecipeError: As of `train`, of the first training that failed; the others are
            stopped, and can be resumed.
    """
    train_pending = _train_in_turn if plan.processes == 1 else _train_at_once
    results: dict[int, TrainingResult] = {}
    while pending := {index: one for index, one in enumerate(trainings) if index not in results}:
        results |= train_pending(pending, len(trainings), plan, progress)
        if waiting := len(trainings) - len(results):
            logger.info("%d of %d networks are being trained by other processes", waiting, len(trainings))
            time.sleep(WAIT_S)
    return [results[index] for index in range(len(trainings))]


def _train_in_turn(
    pending: Mapping[int, MemberTraining], count: int, plan: ProcessPlan, progress: Progress
) -> dict[int, TrainingResult]:
    results = {
        index: _train(one, device=plan.devices[0], progress=partial_progress(progress, index, count, one.title))
        for index, one in pending.items()
    }
    return {index: result for index, result in results.items() if result is not None}


def _train_at_once(
    pending: Mapping[int, MemberTraining], count: int, plan: ProcessPlan, progress: Progress
) -> dict[int, TrainingResult]:
    context = multiprocessing.get_context("spawn")  # forked threads of torch would be lost
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent, (os.getpid(),))
    with (
        manager,
        ProcessPoolExecutor(
            plan.processes, mp_context=context, initializer=_begin_process, initargs=(os.getpid(), plan.threads)
        ) as pool,
    ):
        shared = _Shared(manager.Queue(), manager.Queue(), manager.Event())
        for device in plan.devices:
            shared.devices.put(device)
        futures = {index: pool.submit(_train_one, index, one, shared) for index, one in pending.items()}
        try:
            _wait_for(futures.values(), shared.messages, _OverallProgress(pending, count, progress))
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process of the training ended unexpectedly, perhaps for lack of memory; resume with fewer "
                "processes, what was finished is kept"
            ) from error
        finally:
            shared.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
    results = {index: future.result() for index, future in futures.items()}
    return {index: result for index, result in results.items() if result is not None}


def _train(training: MemberTraining, *, device: str, progress: Progress) -> TrainingResult | None:
    """Return the result of a training; None if another process, perhaps on another machine, is at it."""
    try:
        return train(
            training.prepared, training.recipe, training.run, resume=True, initial=training.initial,
            name=training.name, device=device, tracking=training.tracking, assigned=training.assigned,
            progress=progress,
        )  # fmt: skip
    except TrainingError as error:
        if error.code != IN_USE:
            raise
        return None


def _wait_for(
    futures: Iterable[Future[TrainingResult | None]], messages: Queue[Message], overall: _OverallProgress
) -> None:
    """Report progress until all have ended, or raise the error of the first that failed."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
        overall.report(messages)
        for future in done:
            future.result()


@dataclass
class _OverallProgress:
    """Progress of all trainings as one."""

    trainings: Mapping[int, MemberTraining]
    count: int  # of all trainings
    progress: Progress
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)  # done and total, by training

    def report(self, messages: Queue[Message]) -> None:
        """Report what the messages say, if there are any."""
        latest = None
        while True:
            try:
                index, done, total, what = messages.get_nowait()
            except Empty:
                break
            self.steps[index], latest = (done, total), (index, total, what)
        if latest is None:
            return
        index, total, what = latest
        finished = self.count - len(self.trainings) + sum(done / max(1, of) for done, of in self.steps.values())
        self.progress(int(finished * total), self.count * total, f"{self.trainings[index].title}: {what}")


# -- in the processes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """What the processes share: progress messages, devices that are free, and whether all are to stop."""

    messages: Queue[Message]
    devices: Queue[str]
    stopped: Event


def _train_one(index: int, training: MemberTraining, shared: _Shared) -> TrainingResult | None:
    def report(done: int, total: int, what: str) -> None:
        """Send progress to the parent, and stop if another training failed."""
        shared.messages.put((index, done, total, what))
        if shared.stopped.is_set():
            raise OperationCancelledError("another training failed")

    device = shared.devices.get()
    try:
        return _train(training, device=device, progress=report)
    finally:
        shared.devices.put(device)


def _begin_process(parent: int, threads: int) -> None:
    end_with_parent(parent)
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # it logs every error, and the parent raises the first
    if threads:
        torch.set_num_threads(threads)
