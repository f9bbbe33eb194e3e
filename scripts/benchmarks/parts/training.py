"""Epochs of the real trainer: the step against forward and backward alone, waiting for data, and validation."""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import torch
from ignite.engine import Engine, Events

from lib.learning.dataset import PairsBySide, split_pairs
from lib.learning.losses import cascade_loss
from lib.learning.recipe import Recipe
from lib.learning.trainer import Trainer
from lib.networks.cascade import Cascade
from lib.networks.precision import autocast, choose_device
from lib.pairing.prepared import BODY, MEASURED, PreparedSet
from lib.types import no_progress
from scripts.benchmarks.measure import Figure, Ratio, Result, divide, timed, walls
from scripts.benchmarks.network import gflop, pixels_of, recipe_of, write_arrays

MAX_WAITING, MAX_VALIDATION = 0.02, 0.10  # shares of a step and of an epoch
BARE_STEPS = 8  # of forward and backward alone, after every epoch


@dataclass
class Clock:
    """The times of one trainer's epochs, s, synchronised with its device."""

    device: torch.device
    steps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    _marks: dict[str, float] = field(default_factory=dict)

    def attach(self, trainer: Engine) -> None:
        """Follow the trainer; call it after all other handlers are attached."""
        trainer.add_event_handler(Events.EPOCH_STARTED, self._mark, "epoch")
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._mark, "step")
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self._on_batch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._on_step)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._on_epoch)

    def _since(self, mark: str) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self._marks[mark]

    def _mark(self, _: Engine, name: str) -> None:
        self._marks[name] = 0.0
        self._marks[name] = self._since(name)

    def _on_batch(self, _: Engine) -> None:
        self.waits.append(self._since("step"))

    def _on_step(self, engine: Engine) -> None:
        self.steps.append(self._since("step"))
        self._mark(engine, "last step")

    def _on_epoch(self, _: Engine) -> None:
        after, whole = self._since("last step"), self._since("epoch")
        step, wait = median(self.steps), sum(self.waits) / sum(self.steps)
        self.epochs.append({"step": step, "waiting": wait, "epoch": whole, "validation": after / whole})
        self.steps.clear()
        self.waits.clear()


def measure(args: argparse.Namespace) -> Result:
    """Train for some epochs on computed arrays; after each, run forward and backward of the same network alone.

    A network of `train --refit` has no validation patients; `train` and a server with few patients set some aside.
    """
    device = choose_device(args.device)
    recipe = recipe_of(args, f"stages={args.stages}", f"epochs={args.repeats + 1}")  # the first epoch is not counted
    pixels = pixels_of(args, recipe)
    figures, ratios, slices = [], [], {}
    with tempfile.TemporaryDirectory(prefix="ct2pet-benchmark-") as name:
        prepared = write_arrays(
            Path(name, "arrays"), recipe.preparation,
            patients=args.patients, slices=args.patient_slices, pixels=pixels,
        )  # fmt: skip
        sides = split_pairs(prepared, recipe.split)
        for of, chosen in (("train --refit", replace(sides, validation=())), ("with validation patients", sides)):
            clock, bare = _trained(Path(name, of), recipe, prepared, chosen, device)
            epochs = {key: tuple(epoch[key] for epoch in clock.epochs[1:]) for key in clock.epochs[0]}
            alone, patch = tuple(bare.seconds[1:]), bare.image.shape[-1]
            cost = 3 * gflop(recipe.network, rows=patch, columns=patch) * len(bare.image)  # backward: twice forward
            figures += [
                Figure("step", "ms", tuple(1e3 * s for s in epochs["step"]), of=of),
                Figure("forward and backward alone", "ms", tuple(1e3 * s for s in alone), of=of),
                Figure("speed", "GFLOP/s", tuple(cost / s for s in epochs["step"]), of=of),
                Figure("speed of forward and backward alone", "GFLOP/s", tuple(cost / s for s in alone), of=of),
                Figure("epoch", "s", epochs["epoch"], of=of),
            ]
            ratios += [
                Ratio(f"{of}: step / forward and backward alone", divide(epochs["step"], alone)),
                Ratio(f"{of}: share of a step that waits for data", epochs["waiting"], at_most=MAX_WAITING),
                Ratio(
                    f"{of}: share of an epoch for validation, batch-norm statistics and saving",
                    epochs["validation"],
                    at_most=MAX_VALIDATION,
                ),
            ]
            slices[of] = {side: _count(chosen, side) for side in ("train", "validation")}
    run = {"recipe": recipe.name, "stages": args.stages, "pixels": pixels, "batch": len(bare.image), "patch": patch}
    return Result({**run, "slices": slices, "gflop_per_step": cost}, figures, ratios)


def _trained(
    run: Path, recipe: Recipe, prepared: PreparedSet, sides: PairsBySide, device: torch.device
) -> tuple[Clock, BareSteps]:
    cascade = Cascade(recipe.network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(
        cascade, prepared, sides, recipe, run, device=device, keep_best=_keep_nothing, progress=no_progress
    )
    bare = BareSteps(cascade, recipe, patch=trainer.loader.dataset.patch, device=device)  # type: ignore[attr-defined]
    clock = Clock(device)
    clock.attach(trainer.trainer)
    trainer.trainer.add_event_handler(Events.EPOCH_COMPLETED, bare.measure)
    trainer()
    return clock, bare


def _count(sides: PairsBySide, side: str) -> int:
    return sum(len(indices) for _, indices in getattr(sides, side))


class BareSteps:
    """Forward and backward of a copy of the network on one batch that stays on the device."""

    def __init__(self, cascade: Cascade, recipe: Recipe, *, patch: int, device: torch.device) -> None:
        self.cascade = copy.deepcopy(cascade).train()
        self.recipe, self.device = recipe, device
        shape = (recipe.batches.size, recipe.network.context_slices, patch, patch)
        self.image = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
        self.pet = self.image[:, :1].contiguous()
        self.regions = torch.full_like(self.pet, BODY | MEASURED, dtype=torch.uint8)
        self.seconds: list[float] = []

    def measure(self, _: Engine) -> None:
        """Add the median of some steps."""
        self.seconds.append(median(walls([timed(self._step, self.device) for _ in range(BARE_STEPS)])))

    def _step(self) -> None:
        self.cascade.zero_grad(set_to_none=True)
        with autocast(self.device, self.recipe.precision):
            stages = self.cascade(self.image)
        cascade_loss(stages, self.pet, self.regions, config=self.recipe.loss).backward()


def _keep_nothing(cascade: Cascade, epoch: int) -> None:
    """Save no weights."""
