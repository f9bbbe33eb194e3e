"""Information about models: how an untrained one gets its weights, its versions, and the metrics of each."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ct2pet_app.json_values import sendable
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.model_registry.versions import Verdict, Version, how_to_serve
from lib.errors import CheckpointError
from lib.learning.checkpoint import read_card
from lib.metrics.criteria import COMPARED_METRICS, METHODS


def describe_model(models: ModelRegistry, name: str) -> dict[str, Any]:
    """Return the served version of a model, all its versions, and the serving history.

    Raises:
        NotFoundError: No such model.
    """
    versions = models.versions(models.known(name))
    try:
        published, unusable = models.published(name), ""
    except CheckpointError as error:
        published, unusable = None, str(error)
    served = None if published is None else published.version
    described = {
        "model": name,
        "served": served,
        "checksum": None if published is None else published.checksum,
        "unusable": unusable,
        "versions": [describe_version(name, version, served=version.number == served) for version in versions],
        "size_bytes": sum(version.size_bytes for version in versions),
        "history": [asdict(line) for line in models.history(name)],
    }
    return dict(sendable(described))  # an uploaded card may contain any values


def describe_version(name: str, version: Version, *, served: bool) -> dict[str, Any]:
    """Return the description of a version: its origin, its metrics and those of the baselines, and its verdict."""
    return {
        "version": version.number,
        "served": served,
        "checksum": version.checksum,
        "kept": version.kept,
        "origin": version.origin,
        "parent": version.parent,
        "size_bytes": version.size_bytes,
        "verdict": None if version.verdict is None else _verdict(name, version.number, version.verdict),
        "card": _of_card(version),
    }


def _verdict(name: str, number: int, verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict) | ({} if verdict.published else {"advice": how_to_serve(name, number)})


def _of_card(version: Version) -> dict[str, Any]:
    try:
        card = read_card(version.checkpoint)
    except CheckpointError as error:
        return {"unusable": str(error)}
    table = {} if card.scores is None else card.scores.table
    names = [measure.name for measure in COMPARED_METRICS]
    return {
        "name": card.name,
        "created": card.created,
        "recipe": card.recipe.name,
        "training_patients": len(card.training.patients),
        "judged_on": None if card.scores is None else f"{card.scores.patients} {card.scores.side} patients",
        "figures": {method: {name: table[method].get(name) for name in names} for method in METHODS if method in table},
        "standing": card.standing.sentence,
        "uncertainty": card.calibration is not None,
    }
