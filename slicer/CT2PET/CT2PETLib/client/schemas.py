"""Immutable values for the server's description of itself and its models.

Parsed tolerantly: a field that an older or newer server lacks is empty here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from CT2PETLib.client.errors import NotCT2PETError
from CT2PETLib.client.json_fields import as_float, as_int, as_mapping, as_str
from CT2PETLib.i18n import _

NAME = "ct2pet"  # name of the app in /info/
BASELINES = ("zero", "constant", "hu_mean", "hu_median")  # in the order of the reports


@dataclass(frozen=True)
class MetricInterval:
    """A mean over patients with its 95 % confidence interval; None where unknown."""

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Card:
    """The parts of a model card that are shown to a user.

    Attributes:
        recipe, stages: How the model was trained.
        created: UTC, ISO 8601.
        patients, slices: Size of the training data.
        origins: Number of training patients by `ct_scanner`, `pet_scanner`, `body_part` and `tracer`.
        evaluated_on: `validation` or `test`; empty if the model was not evaluated.
        evaluated_patients: Number of those patients.
        metrics: By method (`model` and the baselines) and metric (`mae_suv_body`, ...).
        intended_use, limits: Text.
        interval_coverage: Coverage of the model's intervals, as text; empty without intervals.
    """

    recipe: str
    stages: int
    created: str
    patients: int
    slices: int
    origins: Mapping[str, Mapping[str, int]]
    evaluated_on: str
    evaluated_patients: int
    metrics: Mapping[str, Mapping[str, MetricInterval]]
    intended_use: str
    limits: str
    interval_coverage: str = ""

    def rows(self, metrics: tuple[str, ...]) -> tuple[tuple[str, tuple[MetricInterval, ...]], ...]:
        """Return a table of these metrics: the row of the model, then those of the baselines."""
        unknown = MetricInterval(None)
        methods = [name for name in ("model", *BASELINES) if name in self.metrics]
        return tuple((name, tuple(self.metrics[name].get(one, unknown) for one in metrics)) for name in methods)


@dataclass(frozen=True)
class Model:
    """A model of the server.

    Attributes:
        uncertainty: Whether the model provides an uncertainty map.
        version: Number of the served version; empty if the server has no versions.
        baseline_result: `beats all`, `not surely`, `does not beat all` or `not judged`; empty for an untrained model.
        baseline_summary: The comparison with the baselines in a sentence.
        settings: Parameters of a training with their defaults; a list holds the choices, the default first.
    """

    name: str
    trained: bool
    description: str
    checksum: str = ""
    version: str = ""
    uncertainty: bool = False
    baseline_result: str = ""
    baseline_summary: str = ""
    card: Card | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server's description of itself.

    Attributes:
        studies, pairs: Number of CTs, and of those with a real PET.
    """

    version: str
    description: str
    models: tuple[Model, ...]
    studies: int
    pairs: int

    @property
    def trained(self) -> tuple[Model, ...]:
        """The models that are trained."""
        return tuple(model for model in self.models if model.trained)

    def model(self, name: str) -> Model | None:
        """Return the model of a name, or None."""
        return next((model for model in self.models if model.name == name), None)


def read_server(content: bytes, base: str) -> Server:
    """Return the server described by the response of ``GET /info/``.

    Raises:
        NotCT2PETError: The response is not from a ct2pet server; the message names the app, if known.
    """
    try:
        data = json.loads(content)
    except ValueError as error:
        raise NotCT2PETError(
            _("{base} responds with a web page, not as a ct2pet server: check the address.").format(base=base)
        ) from error
    if not isinstance(data, dict) or data.get("name") != NAME:
        is_monai = isinstance(data, dict) and "models" in data and "trainers" in data
        app = (
            _("the MONAI Label app “{get}”").format(get=str(data.get("name"))[:60])
            if is_monai
            else _("another program")
        )
        raise NotCT2PETError(_("{base} is {app}, not a ct2pet server: check the address.").format(base=base, app=app))
    trainers = as_mapping(data.get("trainers"))
    models = as_mapping(data.get("models"))
    datastore = as_mapping(data.get("datastore"))
    return Server(
        version=as_str(data.get("version")),
        description=as_str(data.get("description")),
        models=tuple(_model(name, as_mapping(of), as_mapping(trainers.get(name))) for name, of in models.items()),
        studies=as_int(datastore.get("total")),
        pairs=as_int(datastore.get("completed")),
    )


def _model(name: str, data: Mapping[str, Any], trainer: Mapping[str, Any]) -> Model:
    comparison = as_mapping(data.get("standing"))
    return Model(
        name=name,
        trained=bool(data.get("trained")),
        description=as_str(data.get("description")),
        checksum=as_str(data.get("checksum")),
        version=as_str(data.get("version")),
        uncertainty=bool(data.get("uncertainty")),
        baseline_result=as_str(comparison.get("mark")),
        baseline_summary=as_str(comparison.get("sentence")),
        card=read_card(data["card"]) if data.get("card") else None,
        settings=as_mapping(trainer.get("config")),
    )


def read_card(card: Any) -> Card:
    """Return a model card from `/info/` or from the response of an inference."""
    data = as_mapping(card)
    training, scores = as_mapping(data.get("training")), as_mapping(data.get("scores"))
    intervals = as_mapping(scores.get("intervals"))
    metrics = {
        method: _metric_intervals(as_mapping(row), as_mapping(intervals.get(method)))
        for method, row in as_mapping(scores.get("table")).items()
    }
    return Card(
        recipe=as_str(as_mapping(data.get("recipe")).get("name")),
        stages=as_int(as_mapping(data.get("network")).get("stages")),
        created=as_str(data.get("created")),
        patients=len(training.get("patients") or ()),
        slices=as_int(training.get("slices")),
        origins=as_mapping(training.get("origins")),
        evaluated_on=as_str(scores.get("side")),
        evaluated_patients=as_int(scores.get("patients")),
        metrics=metrics,
        intended_use=as_str(data.get("intended_use")),
        limits=as_str(data.get("limits")),
        interval_coverage=as_str(data.get("interval_coverage")),
    )


def _metric_intervals(means: Mapping[str, Any], intervals: Mapping[str, Any]) -> dict[str, MetricInterval]:
    ends = {name: as_mapping(intervals.get(name)) for name in means}
    return {
        name: MetricInterval(as_float(mean), as_float(ends[name].get("low")), as_float(ends[name].get("high")))
        for name, mean in means.items()
    }
