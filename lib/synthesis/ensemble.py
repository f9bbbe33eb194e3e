"""An ensemble: the mean of the synthetic PETs of several models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.errors import CheckpointError
from lib.imaging.volume import Volume
from lib.learning.model_card.card import ModelCard
from lib.networks.runtimes.names import RuntimeName
from lib.synthesis.synthesizer import OutputGrid, Synthesizer
from lib.types import Progress, no_progress


class Ensemble:
    """An ensemble with the interface of `Synthesizer`.

    Its training patients are those of all members; its baselines are those of the first.
    """

    def __init__(self, members: Sequence[Synthesizer]) -> None:
        self.members = tuple(members)
        self.card = _card([member.card for member in members])
        self.checksum = hashlib.sha256(" ".join(member.checksum for member in members).encode()).hexdigest()
        self.device = members[0].device
        self.runtime = members[0].runtime

    def for_patient(self, patient_id: str) -> Ensemble:
        """Return the ensemble itself: all of its members are used for every patient."""
        del patient_id
        return self

    def apply(
        self,
        ct: Volume,
        slices: slice | None = None,
        *,
        grid: OutputGrid = "ct",
        progress: Progress = no_progress,
    ) -> Volume:
        """Return the mean of the members' synthetic PETs, SUVbw; arguments and errors as of `Synthesizer.apply`."""
        first, *others = self.members
        pet = first.apply(ct, slices, grid=grid, progress=progress)
        total = pet.array.astype(np.float64)
        for member in others:
            total += member.apply(ct, slices, grid=grid, progress=progress).array
        return Volume((total / len(self.members)).astype(np.float32), pet.geometry, pet.unit)


def load_models(
    paths: Sequence[Path], *, device: str = "auto", runtime: RuntimeName = "auto"
) -> Synthesizer | Ensemble:
    """Return the synthesizer of one checkpoint, or the ensemble of several.

    Raises:
        CheckpointError: Not a ct2pet checkpoint, or the models use different grids or windows.
        RecipeError: Unknown device; unknown runtime, or one that is not available.
    """
    members = [Synthesizer.load(path, device=device, runtime=runtime) for path in paths]
    return members[0] if len(members) == 1 else Ensemble(members)


def _card(cards: Sequence[ModelCard]) -> ModelCard:
    """Return the first card under another name, with the patients of all members, and without scores."""
    first = cards[0]
    for number, card in enumerate(cards, start=1):
        if card.recipe.preparation != first.recipe.preparation:
            raise CheckpointError(
                f"model {number} of {len(cards)} ({card.name}) uses another grid or other windows than the first, so "
                "their PETs cannot be averaged; give models with the same preparation"
            )
    trained = {digest for card in cards for digest in card.training.patients}
    validation = {digest for card in cards for digest in card.training.validation_patients} - trained
    test = {digest for card in cards for digest in card.training.test_patients} - trained - validation
    training = replace(
        first.training,
        patients=tuple(sorted(trained)),
        validation_patients=tuple(sorted(validation)),
        test_patients=tuple(sorted(test)),
        split=first.training.split if len({card.training.split for card in cards}) == 1 else "",
        split_by_hash=all(card.training.split_by_hash for card in cards),
        folds={},
    )
    name = f"mean of {len(cards)} models like {first.name}"
    return replace(first, name=name, training=training, scores=None, calibration=None, intervals=None)
