"""The model card: what a model is, what it was trained on, how it did, and what it is not for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from lib.errors import CheckpointError, RecipeError
from lib.learning.recipe import Recipe, recipe_from_mapping
from lib.networks.cascade import NetworkConfig
from lib.pairing.prepared import PreparedPair

Made = TypeVar("Made")

INTENDED_USE = (
    "Research on CT-to-PET synthesis. A synthetic PET is an estimate drawn from a CT; it is not a measurement of "
    "metabolism and NOT FOR DIAGNOSIS, staging, treatment planning or follow-up."
)
LIMITS = (
    "Uptake that leaves no trace on CT cannot be synthesised: such lesions are missed, and lesions may be shown that "
    "do not exist. Valid at most for scanners, protocols, tracers and body regions like those of the training studies."
)


@dataclass(frozen=True)
class TrainingData:
    """What a model has seen.

    Attributes:
        patients: Hash of each training patient's ID (`patient_digest`), sorted: tells whether a patient was seen
            without telling who it was.
        pairs, slices: How many entered.
        digest: Hash over all series UIDs of both sides: equal for equal data.
        validation_patients: Hashes of the patients the best weights were chosen on.
    """

    patients: tuple[str, ...]
    validation_patients: tuple[str, ...]
    pairs: int
    slices: int
    digest: str


@dataclass(frozen=True)
class Scores:
    """How a model and the trivial baselines did on the same patients.

    Attributes:
        side: Side of the split they were measured on.
        patients: How many.
        table: Metric values by method: `model`, `zero`, `constant`, `hu_mean`, `hu_median`; None where undefined.
    """

    side: str
    patients: int
    table: Mapping[str, Mapping[str, float | None]]

    def beaten(self, metric: str, *, higher_is_better: bool) -> tuple[str, ...]:
        """Return the baselines that the model beats in a metric."""
        model = self.table["model"].get(metric)
        beaten = []
        for name, values in self.table.items():
            value = values.get(metric)
            if name == "model" or model is None or value is None:
                continue
            if (model > value) if higher_is_better else (model < value):
                beaten.append(name)
        return tuple(beaten)


@dataclass(frozen=True)
class ModelCard:
    """What travels with the weights; see the module docstring."""

    name: str
    created: str  # UTC, ISO 8601
    recipe: Recipe
    network: NetworkConfig
    training: TrainingData
    epoch: int  # whose weights these are
    scores: Scores | None
    baselines: Mapping[str, Any] | None  # what the trivial predictors learned from the training patients
    versions: Mapping[str, str]
    intended_use: str = INTENDED_USE
    limits: str = LIMITS

    def __post_init__(self) -> None:
        if self.network != self.recipe.network:
            raise CheckpointError(f"the card's network {self.network} is not its recipe's {self.recipe.network}")

    def to_json(self) -> str:
        """Return the card as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Return the card of JSON.

        Raises:
            CheckpointError: Not a card of ours, or of another version of ct2pet.
        """
        try:
            card = dict(json.loads(text))
            unknown = set(card) - {field.name for field in dataclasses.fields(cls)}
            if unknown:
                raise CheckpointError(f"the card has unknown keys {sorted(unknown)}; was it written by a newer ct2pet?")
            # as part of a recipe, so that the same words are refused
            card["network"] = recipe_from_mapping({**card["recipe"], "network": card["network"]}).network
            card["recipe"] = recipe_from_mapping(card["recipe"])
            card["training"] = _typed(TrainingData, card["training"])
            card["scores"] = None if card["scores"] is None else _typed(Scores, card["scores"])
            return _typed(cls, card)
        except (ValueError, TypeError, KeyError, RecursionError, RecipeError) as error:
            raise CheckpointError(f"the model card cannot be read: {error}") from error


def patient_digest(patient_id: str) -> str:
    """Return a hash that stands for a patient in a card."""
    return hashlib.sha256(f"ct2pet patient {patient_id}".encode()).hexdigest()[:16]


def data_digest(pairs: Iterable[PreparedPair]) -> str:
    """Return a hash over the series UIDs of pairs, whatever their order."""
    lines = sorted(f"{pair.ct_series_instance_uid} {pair.pet_series_instance_uid}" for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _typed(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """Return a dataclass of plain values from outside, lists as tuples; TypeError where one is not as annotated."""
    hints = typing.get_type_hints(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in dict(values).items()}
    for name, value in values.items():
        if name in hints and not _is(value, hints[name]):
            raise TypeError(f"{name} is {getattr(hints[name], '__name__', hints[name])}, found {value!r:.80}")
    return kind(**values)


def _is(value: object, expected: Any) -> bool:
    arguments = typing.get_args(expected)
    if isinstance(expected, types.UnionType):
        return any(_is(value, kind) for kind in arguments)
    if typing.get_origin(expected) is tuple:
        return isinstance(value, tuple) and all(_is(part, arguments[0]) for part in value)
    if typing.get_origin(expected) is Mapping:
        return isinstance(value, Mapping) and all(_is(part, arguments[1]) for part in value.values())
    return expected is Any or type(value) in ((float, int) if expected is float else (expected,))
