"""Tasks: trainings, batches and scorings, which run in processes of their own."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from ct2pet_app.api_object import ApiObject


class Task(ApiObject):
    """A task.

    Attributes:
        id: UUID.
        request: Its validated parameters.
        start_ts, end_ts: Local time of the server.
        details: The last lines of its output, 20 at most.
        error: `code`, `params` and `detail` of the error that ended it.
    """

    id: str
    status: Literal["SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"]
    request: dict[str, Any]
    start_ts: str
    end_ts: NotRequired[str]
    details: NotRequired[list[str]]
    error: NotRequired[dict[str, Any]]


class StartedTask(ApiObject):
    """One of several tasks that were started together, in MONAI Label's form."""

    result: Task
    detail: None


class TrainingTask(Task):
    """A training task; once it has ended, with the decision about its model.

    Attributes:
        published: Whether the model is served.
        verdict: Why, or why not.
        version: Of the model.
        advice: How to serve the model in spite of the verdict.
    """

    published: NotRequired[bool]
    verdict: NotRequired[str]
    version: NotRequired[int]
    advice: NotRequired[str]


class CaseProgress(ApiObject):
    """The progress of a batch or a scoring.

    Attributes:
        to_do: Cases of this task.
        done: Of these, including those that failed.
        already_done: Cases that an earlier task had done.
        now: The current case.
        reasons: Why cases failed, by case; 200 at most.
        result: Once all cases are done.
    """

    to_do: int
    done: int
    already_done: int
    percent: int
    now: str | None
    failed: int
    reasons: dict[str, str]
    result: dict[str, Any] | None


class CaseTask(Task):
    """A batch or a scoring; its progress is null before it has begun."""

    progress: CaseProgress | None
