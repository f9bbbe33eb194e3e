"""What a server tells of trainings and of the versions of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from CT2PETLib.client.error_messages import for_panel
from CT2PETLib.client.json_fields import count, mapping, must, number, plain, word

WORDS = {  # MONAI Label's states of a task, for people
    "SUBMITTED": "waiting to begin",
    "RUNNING": "running",
    "DONE": "done",
    "ERROR": "failed",
    "STOPPED": "stopped",
}


@dataclass(frozen=True)
class CurvePoint:
    """One finished epoch: training loss, and the validation figure that chooses the best weights; None if unknown."""

    epoch: int
    loss: float | None
    metric: float | None


@dataclass(frozen=True)
class Training:
    """How the newest training does, or did.

    Attributes:
        model: Whose; empty before the first training.
        state: `SUBMITTED`, `RUNNING`, `DONE`, `ERROR`, `STOPPED`; empty before the first training.
        epoch, epochs: Finished, and at most; 0 before the first is finished.
        loss: Of the newest epoch; None before.
        metrics: Validation figures of the newest epoch; `key_metric` names the one that chooses the best weights.
        best: The best of that one so far, in epoch `best_epoch`; None where nobody validates.
        time_left: H:MM:SS, or empty.
        published: Whether the result is served; None before that was decided.
        verdict: Champion or challenger, in words; empty before.
        version: What the result is kept as; empty before.
        details: The last lines of its log.
        curve: A point for each finished epoch, whoever began the training and when; of a very long one, some.
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
    details: tuple[str, ...] = ()
    curve: tuple[CurvePoint, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it can be stopped."""
        return self.state in ("SUBMITTED", "RUNNING")

    @property
    def in_words(self) -> str:
        """The state for people."""
        return WORDS.get(self.state, "there was no training yet" if not self.state else self.state.lower())


@dataclass(frozen=True)
class Version:
    """One version of a model.

    Attributes:
        kept: When it came, UTC, ISO 8601.
        origin: Of a training, uploaded, or put there by hand.
        parent: The version its training started from; None for fresh weights.
        published: What was decided about it; None where nothing was.
        verdict: The same in words.
        standing: Beside trivial predictors.
        patients: It was trained on.
        uncertainty: Whether it can say what error to expect.
    """

    number: int
    served: bool
    checksum: str
    kept: str
    origin: str
    parent: int | None
    published: bool | None
    verdict: str
    standing: str
    patients: int
    uncertainty: bool = False


@dataclass(frozen=True)
class Versions:
    """The versions of a model, newest first; `served` is the number of the one in use, or None."""

    model: str
    served: int | None
    versions: tuple[Version, ...]

    @property
    def can_roll_back(self) -> bool:
        """Whether there is another version to go back to."""
        return any(version.number != self.served for version in self.versions)


def model_of_task(task: bytes) -> str:
    """Return whose training ``GET /train/`` tells of; AnswerError where that is not understood."""
    return word(mapping(mapping(plain(task)).get("request")).get("model"))


def read_training(task: bytes | None, run: bytes) -> Training:
    """Return what ``GET /train/`` and ``GET /ct2pet/training`` tell together.

    Args:
        task: None where the server knows of no task: since it was started none was asked for.
        run: The newest run of the task's model; without a task, of all models.

    Raises:
        AnswerError: One is not understood.
    """
    stats = mapping(plain(run))
    told = _of_run_alone(stats) if task is None else mapping(plain(task))
    if not told:
        return Training()
    state = word(told.get("status"))
    if "verdict" in stats and state != "DONE":
        stats = {}  # of the run before: this one has not told anything yet
    learnt, judged = mapping(stats.get("train")), mapping(stats.get("eval"))
    key_metric = word(stats.get("key_metric"))
    figures = _figures(judged.get("metrics"))
    decided = {**stats, **told} if state == "DONE" else {}
    curve = tuple(_point(mapping(epoch), key_metric) for epoch in stats.get("epochs") or ())
    best_epoch = count(judged.get("best_metric_epoch"))
    return Training(
        model=word(mapping(told.get("request")).get("model")),
        state=state,
        epoch=count(stats.get("epoch")),
        epochs=count(stats.get("total_epochs")),
        loss=number(mapping(learnt.get("metrics")).get("loss")),
        metrics=figures,
        key_metric=key_metric,
        # the server's own figure is never below 0, for the stock module paints it as a percentage
        best=next((point.metric for point in curve if point.epoch == best_epoch), None),
        best_epoch=best_epoch,
        time_left=word(stats.get("time_left")) if state == "RUNNING" else "",
        published=decided.get("published"),
        verdict=for_panel(word(decided.get("verdict"))),
        version=word(decided.get("version")),
        details=tuple(str(line) for line in told.get("details") or ()),
        curve=curve,
    )


def _of_run_alone(stats: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the task of a run that began before the server was started: it does not run any more."""
    if not stats.get("model"):
        return {}
    return {"request": {"model": stats["model"]}, "status": "DONE" if "verdict" in stats else "STOPPED"}


def _point(told: Mapping[str, Any], key_metric: str) -> CurvePoint:
    return CurvePoint(count(told.get("epoch")), number(told.get("loss")), _figures(told.get("metrics")).get(key_metric))


def _figures(metrics: Any) -> dict[str, float]:
    figures = {name: number(value) for name, value in mapping(metrics).items()}
    return {name: value for name, value in figures.items() if value is not None}


def read_versions(answer: Any) -> Versions:
    """Return what the server tells of one model's versions.

    Raises:
        AnswerError: It is not understood.
    """
    told = mapping(answer)
    versions = [_version(mapping(version)) for version in must(told, "versions")]
    served = told.get("served")
    return Versions(
        model=word(must(told, "model")),
        served=served if isinstance(served, int) else None,
        versions=tuple(sorted(versions, key=lambda version: version.number, reverse=True)),
    )


def _version(told: Mapping[str, Any]) -> Version:
    verdict, card, parent = mapping(told.get("verdict")), mapping(told.get("card")), told.get("parent")
    return Version(
        number=count(told.get("version")),
        served=bool(told.get("served")),
        checksum=word(told.get("checksum")),
        kept=word(told.get("kept")),
        origin=word(told.get("origin")),
        parent=parent if isinstance(parent, int) else None,
        published=verdict.get("published"),
        verdict=for_panel(word(verdict.get("verdict"))),
        standing=for_panel(word(card.get("standing")) or word(card.get("unusable"))),
        patients=count(card.get("training_patients")),
        uncertainty=bool(card.get("uncertainty")),
    )
