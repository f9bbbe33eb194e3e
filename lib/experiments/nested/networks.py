"""Networks of a nested cross-validation, each trained once on a set of patients and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from lib.learning.checkpoint import load_checkpoint
from lib.learning.model_card.card import data_digest, patient_digest
from lib.learning.recipe import Recipe, SynthesisConfig
from lib.learning.training import train
from lib.networks.cascade import Cascade
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side
from lib.types import Progress, no_progress

NETWORKS_FOLDER = "networks"


def trained_network(
    prepared: PreparedSet, recipe: Recipe, out: Path, *, device: str = "auto", progress: Progress = no_progress
) -> Cascade:
    """Return a network trained on every patient of `prepared` for all epochs of the recipe.

    A network of the same recipe and patients is loaded; an interrupted training is resumed.

    Args:
        prepared: Arrays of the training patients alone.
        recipe: Its patience is ignored, as there is no validation patient to select weights on.
        out: Folder of the study; the run is a folder in `networks/`.
        device: As for training.
        progress: Called during training.
    """
    recipe = replace(recipe, synthesis=SynthesisConfig(), schedule=replace(recipe.schedule, patience=0))
    run = out / NETWORKS_FOLDER / _digest(prepared, recipe)
    everyone = dict.fromkeys(prepared.patients(), Side.TRAIN)
    result = train(prepared, recipe, run, resume=True, device=device, assigned=everyone, progress=progress)
    for resumable in run.glob("resume_*.pt"):
        resumable.unlink()  # to save disk space: finished runs are never resumed
    return load_checkpoint(result.model, device=choose_device(device))[0]


def first_patients(patients: Iterable[str], count: int) -> tuple[str, ...]:
    """Return `count` patients, the first by their hash, for a learning curve; 0 for all."""
    ordered = sorted(patients, key=lambda patient: hashlib.sha256(f"curve/{patient}".encode()).hexdigest())
    return tuple(ordered[:count] if count else ordered)


def _digest(prepared: PreparedSet, recipe: Recipe) -> str:
    canonical = json.dumps(
        {
            "recipe": asdict(replace(recipe, name="")),
            "patients": sorted(map(patient_digest, prepared.patients())),
            "data": data_digest(prepared.pairs),
        },
        sort_keys=True,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
