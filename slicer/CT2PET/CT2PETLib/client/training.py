"""State of trainings, and the versions of the server's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.error_messages import message_of
from CT2PETLib.client.json_fields import as_float, as_int, as_mapping, as_str, parse_json, require
from CT2PETLib.i18n import _

STATE_TEXTS = {  # by MONAI Label's states of a task
    "SUBMITTED": _("queued"),
    "RUNNING": _("running"),
    "DONE": _("done"),
    "ERROR": _("failed"),
    "STOPPED": _("stopped"),
}


METRIC_NAMES = {
    "skill_body": _("reduction of the body MAE against zero uptake"),
    "mae_suv_body": _("body MAE"),
    "psnr_db_body": _("body PSNR"),
    "ssim_body": _("body SSIM"),
    "correlation_body": _("body correlation"),
}


@dataclass(frozen=True)
class CurvePoint:
    """A finished epoch: training loss, and the validation metric that selects the best weights; None if unknown."""

    epoch: int
    loss: float | None
    metric: float | None


@dataclass(frozen=True)
class Training:
    """State of the newest training.

    Attributes:
        model: Name of its model; empty before the first training.
        state: `SUBMITTED`, `RUNNING`, `DONE`, `ERROR`, `STOPPED`; empty before the first training.
        epoch, epochs: Finished epochs, and their maximum; 0 before the first is finished.
        loss: Training loss of the last epoch; None before.
        metrics: Validation metrics of the last epoch; `key_metric` names the one that selects the best weights.
        best: Best value of that metric so far, in epoch `best_epoch`; None without validation.
        time_left: H:MM:SS, or empty.
        published: Whether the result is served; None before the decision.
        verdict: The decision with its reason, as text; empty before.
        version: Version of the result; empty before.
        why_failed: The reason, if it failed and the server gives one.
        curve: A point for each finished epoch, regardless of who started the training; a subset of a very long one.
    """

    model: str = ""
    state: str = ""
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    metrics: Mapping[str, float] | None = None
    key_metric: str = ""
    best: float | None = None
    best_epoch: int = 0
    time_left: str = ""
    published: bool | None = None
    verdict: str = ""
    version: str = ""
    why_failed: str = ""
    curve: tuple[CurvePoint, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it can be stopped."""
        return self.state in ("SUBMITTED", "RUNNING")

    @property
    def metric_name(self) -> str:
        """The validation metric that selects the best weights, as shown to the user."""
        return METRIC_NAMES.get(self.key_metric, self.key_metric or _("metric"))

    @property
    def state_text(self) -> str:
        """The state as shown to the user."""
        return STATE_TEXTS.get(self.state, self.state.lower() or _("not started"))


@dataclass(frozen=True)
class Version:
    """A version of a model.

    Attributes:
        kept: When it was added, UTC, ISO 8601.
        origin: From a training, uploaded, or copied into the models folder.
        parent: Version that its training started from; None for random weights.
        published: The decision about serving it; None if there was none.
        verdict: The decision with its reason, as text.
        baseline_summary: Comparison with the baselines.
        patients: Number of training patients.
        uncertainty: Whether it provides an uncertainty map.
    """

    number: int
    served: bool
    checksum: str
    kept: str
    origin: str
    parent: int | None
    published: bool | None
    verdict: str
    baseline_summary: str
    patients: int
    uncertainty: bool = False


@dataclass(frozen=True)
class Versions:
    """The versions of a model, newest first; `served` is the number of the served one, or None."""

    model: str
    served: int | None
    versions: tuple[Version, ...]

    @property
    def can_roll_back(self) -> bool:
        """Whether there is another version to serve."""
        return any(version.number != self.served for version in self.versions)


def model_of_task(task: bytes) -> str:
    """Return the model of the training in the response of ``GET /train/``.

    Raises:
        InvalidResponseError: The response is not JSON.
    """
    return as_str(as_mapping(as_mapping(parse_json(task)).get("request")).get("model"))


def read_training(task: bytes | None, run: bytes) -> Training:
    """Return the training described by the responses of ``GET /train/`` and ``GET /ct2pet/training``.

    Args:
        task: None if the server has no task, as no training was started since the start of the server.
        run: The newest run of the task's model; without a task, of all models.

    Raises:
        InvalidResponseError: A response is not JSON.
    """
    stats = as_mapping(parse_json(run))
    status = _task_of_run(stats) if task is None else as_mapping(parse_json(task))
    if not status:
        return Training()
    state = as_str(status.get("status"))
    if "verdict" in stats and state != "DONE":
        stats = {}  # of the previous run: this one has not reported anything yet
    train, evaluation = as_mapping(stats.get("train")), as_mapping(stats.get("eval"))
    key_metric = as_str(stats.get("key_metric"))
    decision = {**stats, **status} if state == "DONE" else {}
    curve = tuple(_point(as_mapping(epoch), key_metric) for epoch in stats.get("epochs") or ())
    best_epoch = as_int(evaluation.get("best_metric_epoch"))
    return Training(
        model=as_str(as_mapping(status.get("request")).get("model")),
        state=state,
        epoch=as_int(stats.get("epoch")),
        epochs=as_int(stats.get("total_epochs")),
        loss=as_float(as_mapping(train.get("metrics")).get("loss")),
        metrics=_metrics(evaluation.get("metrics")),
        key_metric=key_metric,
        # the server's own value is clipped at 0, as the stock module displays it as a percentage
        best=next((point.metric for point in curve if point.epoch == best_epoch), None),
        best_epoch=best_epoch,
        time_left=as_str(stats.get("time_left")) if state == "RUNNING" else "",
        published=decision.get("published"),
        verdict=_verdict(decision, decision.get("version")),
        version=as_str(decision.get("version")),
        why_failed=message_of(as_mapping(status.get("error"))) if state == "ERROR" else "",
        curve=curve,
    )


def _task_of_run(stats: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a task for a run that started before the server was restarted, so it is not active."""
    if not stats.get("model"):
        return {}
    return {"request": {"model": stats["model"]}, "status": "DONE" if "verdict" in stats else "STOPPED"}


def _point(epoch: Mapping[str, Any], key_metric: str) -> CurvePoint:
    metric = _metrics(epoch.get("metrics")).get(key_metric)
    return CurvePoint(as_int(epoch.get("epoch")), as_float(epoch.get("loss")), metric)


def _metrics(values: Any) -> dict[str, float]:
    metrics = {name: as_float(value) for name, value in as_mapping(values).items()}
    return {name: value for name, value in metrics.items() if value is not None}


def read_versions(response: Any) -> Versions:
    """Return the versions of a model from the JSON of a response.

    Raises:
        InvalidResponseError: A required field is missing.
    """
    data = as_mapping(response)
    versions = [_version(as_mapping(version)) for version in require(data, "versions")]
    served = data.get("served")
    return Versions(
        model=as_str(require(data, "model")),
        served=served if isinstance(served, int) else None,
        versions=tuple(sorted(versions, key=lambda version: version.number, reverse=True)),
    )


def _verdict(decision: Mapping[str, Any], version: Any) -> str:
    """Return the verdict, with the way to serve the version anyway, if the server allows it."""
    verdict = as_str(decision.get("verdict"))
    verdict = verdict[:1].upper() + verdict[1:]
    if not decision.get("advice"):
        return verdict
    return _(
        "{verdict} To use it anyway, choose version {version} in section 7, then press Use the selected version."
    ).format(verdict=verdict, version=version)


def _version(data: Mapping[str, Any]) -> Version:
    verdict, card, parent = as_mapping(data.get("verdict")), as_mapping(data.get("card")), data.get("parent")
    return Version(
        number=as_int(data.get("version")),
        served=bool(data.get("served")),
        checksum=as_str(data.get("checksum")),
        kept=as_str(data.get("kept")),
        origin=as_str(data.get("origin")),
        parent=parent if isinstance(parent, int) else None,
        published=verdict.get("published"),
        verdict=_verdict(verdict, data.get("version")),
        baseline_summary=as_str(card.get("standing")) or as_str(card.get("unusable")),
        patients=as_int(card.get("training_patients")),
        uncertainty=bool(card.get("uncertainty")),
    )
