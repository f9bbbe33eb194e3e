"""Networks of a nested cross-validation, each trained once on a set of patients and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from lib.learning.checkpoint import load_checkpoint
from lib.learning.member_processes import MemberTraining
from lib.learning.model_card.card import data_digest, patient_digest
from lib.learning.recipe import Recipe, SynthesisConfig
from lib.learning.training import MODEL_FILE
from lib.networks.cascade import Cascade
from lib.networks.precision import choose_device
from lib.pairing.prepared import PreparedSet
from lib.pairing.split import Side

NETWORKS_FOLDER = "networks"


def network_training(prepared: PreparedSet, recipe: Recipe, out: Path, *, title: str) -> MemberTraining:
    """Return the training of a network on every patient of `prepared`, for all epochs of the recipe.

    Args:
        prepared: Arrays of the training patients alone.
        recipe: Its patience is ignored, as there is no validation patient to select weights on.
        out: Folder of the study; the run is a folder in `networks/`, named after recipe and patients, so that a
            network is trained once.
        title: Of progress messages.
    """
    recipe = replace(recipe, synthesis=SynthesisConfig(), schedule=replace(recipe.schedule, patience=0))
    run = out / NETWORKS_FOLDER / _digest(prepared, recipe)
    return MemberTraining(title, prepared, recipe, run, dict.fromkeys(prepared.patients(), Side.TRAIN))


def load_network(training: MemberTraining, *, device: str = "auto") -> Cascade:
    """Return the network of a finished training, and delete what only an unfinished one needs."""
    for resumable in training.run.glob("resume_*.pt"):
        resumable.unlink()  # to save disk space: finished runs are never resumed
    return load_checkpoint(training.run / MODEL_FILE, device=choose_device(device))[0]


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
