"""`train`: train a model."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lib.cli.console import print_json, print_line, progress_bar
from lib.cli.options import (
    AsJson,
    Device,
    Experiment,
    Labels,
    Processes,
    RecipeName,
    Register,
    Settings,
    StudiesOrArrays,
    TrackingName,
    TrackingUri,
)
from lib.cli.scores import print_card_scores
from lib.cli.studies import open_or_prepare, start_tracking
from lib.errors import InputError


def train(
    studies: StudiesOrArrays,
    out: Annotated[Path, typer.Option(help="Folder of the run.", show_default=False)],
    recipe: RecipeName = "quantitative",
    stages: Annotated[int | None, typer.Option(help="Number of U-Nets in the cascade, 1 to 6.")] = None,
    settings: Settings = None,
    register: Register = False,
    labels: Labels = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Use all patients: train as many networks as folds, each judged by patients it was not trained on; "
            "save their ensemble.",
        ),
    ] = False,
    folds: Annotated[int, typer.Option(help="Number of folds and networks of --refit.")] = 10,
    processes: Processes = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this folder.")] = False,
    device: Device = "auto",
    tracking: TrackingName = "none",
    tracking_uri: TrackingUri = "",
    experiment: Experiment = "ct2pet",
    as_json: AsJson = False,
) -> None:
    """Train a cascade and save it as one .safetensors file, with its metrics.

    Without `--refit`, some patients are set aside to select the weights and to test the model. With `--refit`, all of
    them train it, and each is still judged by a network that was not trained on them.

    On several GPUs: `torchrun --nproc-per-node 4 main.py train ARRAYS --out RUN`, with arrays written by `prepare`. On
    several machines with a shared RUN: `torchrun --nnodes 2 ...` (docs/training-over-nodes.md), or, with `--refit`, the
    same command with `--resume` on each: they share out the networks.

    The JSON is `{model, epochs, stopped_because, scores, standing}`.
    """
    from lib.learning.cross_validation.training import train_cross_validated
    from lib.learning.recipe import load_recipe
    from lib.learning.training import train as train_cascade

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not (studies / "index.json").is_file():
        raise InputError(f"{studies} has no arrays; several processes train on arrays that `prepare` has written")
    tracker = start_tracking(tracking, uri=tracking_uri, experiment=experiment)
    chosen = load_recipe(recipe, settings=[*(settings or ()), *([f"stages={stages}"] if stages is not None else [])])
    prepared = open_or_prepare(studies, out, chosen, register=register, labels=labels)
    run = train_cascade if not refit else partial(train_cross_validated, folds=folds, processes=processes)
    with progress_bar() as progress:
        result = run(prepared, chosen, out, resume=resume, device=device, tracking=tracker, progress=progress)
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun only the first process prints
    card = result.card
    if as_json:
        outcome = {"model": result.model, "epochs": result.epochs, "stopped_because": result.stopped_because}
        print_json({**outcome, "scores": card.scores, "standing": card.standing})
        return
    print_card_scores(card)
    print_line(f"{result.epochs} epochs ({result.stopped_because}); model: {result.model}")
