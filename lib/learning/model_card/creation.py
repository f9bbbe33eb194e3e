"""The model card of newly trained weights."""

from __future__ import annotations

import datetime

import lib
from lib.learning.dataset import PairsBySide
from lib.learning.model_card.card import ModelCard, TrainingData, data_digest, patient_digest, split_digest
from lib.learning.model_card.limits import limits_of, origins_of
from lib.learning.recipe import Recipe
from lib.metrics.image import library_versions
from lib.pairing.split import SPLIT_SIDES, Side


def new_card(recipe: Recipe, sides: PairsBySide, *, epoch: int, name: str | None = None) -> ModelCard:
    """Return the model card of weights trained on these pairs, without scores."""
    entries = (*sides.train, *sides.validation)
    digests = digests_by_side(sides)
    training = TrainingData(
        patients=digests[Side.TRAIN],
        validation_patients=digests[Side.VALIDATION],
        test_patients=digests[Side.TEST],
        pairs=len(sides.train),
        slices=sum(len(indices) for _, indices in sides.train),
        digest=data_digest(pair for pair, _ in entries),
        split=split_digest(recipe.split, digests),
        split_by_hash=_is_by_hash(recipe, sides),
        origins=origins_of(pair for pair, _ in sides.train),
    )
    return ModelCard(
        name=model_name(recipe, name),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        recipe=recipe,
        network=recipe.network,
        training=training,
        epoch=epoch,
        scores=None,
        baselines=None,
        versions={"ct2pet": lib.__version__, **library_versions()},
        limits=limits_of(len(training.patients), training.origins),
    )


def model_name(recipe: Recipe, name: str | None) -> str:
    """Return the name of a model: as given, or the recipe's name with the number of stages."""
    return name or f"{recipe.name}-{recipe.network.stages}"


def digests_by_side(sides: PairsBySide) -> dict[str, tuple[str, ...]]:
    """Return the hashes of the patients on each side, sorted."""
    return {side: tuple(sorted(patient_digest(patient) for patient in sides.patients(side))) for side in SPLIT_SIDES}


def _is_by_hash(recipe: Recipe, sides: PairsBySide) -> bool:
    side_of = recipe.split.side_of_patient
    return recipe.split.unit == "slice" or all(
        side_of(patient) == side for side in SPLIT_SIDES for patient in sides.patients(side)
    )
