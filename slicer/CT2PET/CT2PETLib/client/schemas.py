"""What the server tells of itself and its models, as values that do not change.

Read tolerantly: a word that an older or newer server lacks is empty here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from CT2PETLib.client.errors import NotCT2PETError
from CT2PETLib.client.json_fields import count, mapping, number, word

NAME = "ct2pet"  # what a server of ours is called in /info/
BASELINES = ("zero", "constant", "hu_mean", "hu_median")  # as every report orders them


@dataclass(frozen=True)
class Figure:
    """A mean over patients with its 95 % interval; None where it is unknown."""

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Card:
    """A model's card, as far as a user reads it.

    Attributes:
        recipe, stages: How it was made.
        created: UTC, ISO 8601.
        patients, slices: What it has learnt from.
        origins: Training patients by `ct_scanner`, `pet_scanner`, `body_part` and `tracer`.
        judged_on: `validation` or `test`; empty where it was not judged.
        judged_patients: How many those were.
        figures: By method (`model` and the trivial predictors) and measure (`mae_suv_body`, ...).
        intended_use, limits: Sentences.
    """

    recipe: str
    stages: int
    created: str
    patients: int
    slices: int
    origins: Mapping[str, Mapping[str, int]]
    evaluated_on: str
    evaluated_patients: int
    figures: Mapping[str, Mapping[str, Figure]]
    intended_use: str
    limits: str

    def rows(self, metrics: tuple[str, ...]) -> tuple[tuple[str, tuple[Figure, ...]], ...]:
        """Return the figures as a table: the model, then the trivial predictors, each with these measures."""
        unknown = Figure(None)
        methods = [name for name in ("model", *BASELINES) if name in self.figures]
        return tuple((name, tuple(self.figures[name].get(one, unknown) for one in metrics)) for name in methods)


@dataclass(frozen=True)
class Model:
    """A model that the server offers.

    Attributes:
        standing: One sentence beside the trivial predictors.
        mark: The same in a word: `beats all`, `not surely`, `does not beat all`, `not judged`; empty when untrained.
        uncertainty: Whether it can say what error to expect.
        version: As the server counts them; empty where it does not.
        settings: What a training may be told, with the defaults; a list is a choice, its first the default.
    """

    name: str
    trained: bool
    description: str
    checksum: str = ""
    version: str = ""
    uncertainty: bool = False
    mark: str = ""
    standing: str = ""
    card: Card | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """What a server says of itself.

    Attributes:
        studies, pairs: CTs there, and how many of them have a real PET.
    """

    version: str
    description: str
    models: tuple[Model, ...]
    studies: int
    pairs: int

    @property
    def trained(self) -> tuple[Model, ...]:
        """The models that can draw."""
        return tuple(model for model in self.models if model.trained)

    def model(self, name: str) -> Model | None:
        """Return a model by its name, or None."""
        return next((model for model in self.models if model.name == name), None)


def read_server(content: bytes, base: str) -> Server:
    """Return what ``GET /info/`` tells.

    Raises:
        NotCT2PETError: It was not told by a server of ours; the sentence says by whom, where that is known.
    """
    try:
        told = json.loads(content)
    except ValueError as error:
        raise NotCT2PETError(f"{base} answers with a page, not as a ct2pet server: is the address right?") from error
    if not isinstance(told, dict) or told.get("name") != NAME:
        is_monai = isinstance(told, dict) and "models" in told and "trainers" in told
        what = f"the MONAI Label app “{str(told.get('name'))[:60]}”" if is_monai else "another program"
        raise NotCT2PETError(f"{base} is {what}, not a ct2pet server: is the address right?")
    trainers = mapping(told.get("trainers"))
    models = mapping(told.get("models"))
    datastore = mapping(told.get("datastore"))
    return Server(
        version=word(told.get("version")),
        description=word(told.get("description")),
        models=tuple(_model(name, mapping(of), mapping(trainers.get(name))) for name, of in models.items()),
        studies=count(datastore.get("total")),
        pairs=count(datastore.get("completed")),
    )


def _model(name: str, told: Mapping[str, Any], trainer: Mapping[str, Any]) -> Model:
    standing = mapping(told.get("standing"))
    return Model(
        name=name,
        trained=bool(told.get("trained")),
        description=word(told.get("description")),
        checksum=word(told.get("checksum")),
        version=word(told.get("version")),
        uncertainty=bool(told.get("uncertainty")),
        mark=word(standing.get("mark")),
        standing=word(standing.get("sentence")),
        card=read_card(told["card"]) if told.get("card") else None,
        settings=mapping(trainer.get("config")),
    )


def read_card(card: Any) -> Card:
    """Return a model card, as `/info/` and the answer of an inference hold it."""
    told = mapping(card)
    training, scores = mapping(told.get("training")), mapping(told.get("scores"))
    intervals = mapping(scores.get("intervals"))
    figures = {
        method: {name: _figure(mean, mapping(intervals.get(method)).get(name)) for name, mean in mapping(row).items()}
        for method, row in mapping(scores.get("table")).items()
    }
    return Card(
        recipe=word(mapping(told.get("recipe")).get("name")),
        stages=count(mapping(told.get("network")).get("stages")),
        created=word(told.get("created")),
        patients=len(training.get("patients") or ()),
        slices=count(training.get("slices")),
        origins=mapping(training.get("origins")),
        evaluated_on=word(scores.get("side")),
        evaluated_patients=count(scores.get("patients")),
        figures=figures,
        intended_use=word(told.get("intended_use")),
        limits=word(told.get("limits")),
    )


def _figure(mean: Any, interval: Any) -> Figure:
    ends = mapping(interval)
    return Figure(number(mean), number(ends.get("low")), number(ends.get("high")))
