"""Status of trainings: the state of the newest run, and every epoch of it so far.

It is read from the run's folder, so it is available during the run, after its end, and after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ct2pet_app.json_values import sendable
from ct2pet_app.model_registry.registry import ModelRegistry
from ct2pet_app.training.run_folders import newest_run, run_order, stats_of_run
from lib.learning.tracking.progress import KEY_METRIC, EpochRecord, read_history

MAX_EPOCHS = 2000  # in a response: more points than a screen has columns, in 0.4 MB


def describe_training(models: ModelRegistry, name: str = "") -> dict[str, Any]:
    """Return the state of the newest training run with its epochs so far; `model` is None before the first run.

    Args:
        models: The models whose runs are read.
        name: Name of the model; empty for the newest run of all models.

    Raises:
        NotFoundError: No such model.
    """
    names = (models.known(name),) if name else models.names
    newest = {one: run.name for one in names if (run := newest_run(models.runs(one))) is not None}
    if not newest:
        return {"model": None, "run": None, "epochs": []}
    model = max(newest, key=lambda one: run_order(newest[one]))
    records = read_history(models.runs(model) / newest[model])
    epochs = [
        {"epoch": record.epoch, "loss": record.loss, "metrics": dict(record.metrics)} for record in thinned(records)
    ]
    return {
        **stats_of_run(models.runs(model), newest[model]),
        "model": model,
        "run": newest[model],
        "key_metric": KEY_METRIC,
        "epochs": sendable(epochs),  # a diverged training has losses that are not finite
    }


def thinned(records: Sequence[EpochRecord], limit: int = MAX_EPOCHS) -> list[EpochRecord]:
    """Return the epochs, or `limit` of them spread evenly, including the first and the last."""
    if len(records) <= limit:
        return list(records)
    return [records[number * (len(records) - 1) // (limit - 1)] for number in range(limit)]
