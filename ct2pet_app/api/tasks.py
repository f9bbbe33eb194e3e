"""Scorings and batches: the stock endpoints; wrong parameters are refused before a process starts.

The stock status holds the last 20 lines of a log. Here it also has `progress`: how many cases are done, which failed
and why, and finally the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.responses import stored_json
from ct2pet_app.api.schemas.tasks import CaseTask, StartedTask, Task
from ct2pet_app.app import CT2PETApp
from ct2pet_app.auth.permissions import ADMIN, ANNOTATOR, USER
from ct2pet_app.errors import NotFoundError, RequestError, TaskRunningError
from ct2pet_app.json_values import require_plain
from ct2pet_app.scoring.score_store import Summary, summary_of
from ct2pet_app.scoring.task import scoring_settings
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.server.tasks.progress import read_report

SCORING, BATCH = "scoring", "batch_infer"  # MONAI Label's names of the tasks
TITLE = {SCORING: "scoring", BATCH: "batch"}
START = {SCORING: "POST /scoring/metrics", BATCH: "POST /batch/infer/<model>"}
Status = CaseTask | list[CaseTask]

router = APIRouter(route_class=GuardedRoute)


@router.post("/scoring/{method}", dependencies=[ANNOTATOR], tags=["Scoring"], response_model=Task)
def start_scoring(app: AppDep, method: str, params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
    """Start a scoring: `metrics` of all pairs, or `uncertainty` of all CTs without a PET."""
    _refuse_run_sync(run_sync)
    settings = _scoring_settings(app, method, params or {})
    return started_or_refused(app.task_runner.start(SCORING, settings), TITLE[SCORING])


@router.post(
    "/scoring/",
    dependencies=[ANNOTATOR],
    tags=["Scoring"],
    deprecated=True,
    summary="Start all scorings",
    response_model=dict[str, StartedTask],
)
def start_all_scorings(app: AppDep, params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
    """Start every scoring, one after the other; `params` holds the parameters of each under its name."""
    _refuse_run_sync(run_sync)
    require_plain(params or {})
    settings = {}
    for method in app.info()["scoring"]:
        own = (params or {}).get(method) or {}
        if not isinstance(own, dict):
            raise RequestError(f'{method}: expected its parameters, such as {{"{method}": {{"model": "unet"}}}}')
        settings[method] = _scoring_settings(app, method, own)
    tasks = started_or_refused(app.task_runner.start_all(SCORING, list(settings.values())), TITLE[SCORING])
    return {method: {"result": task, "detail": None} for method, task in zip(settings, tasks, strict=True)}


@router.get("/scoring/", dependencies=[USER], tags=["Scoring"], **stored_json(Status))
def get_scoring_status(app: AppDep, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the newest scoring with its progress; with `all` every one, with `check_if_running` a running one."""
    return _status(app, SCORING, every=all, running=check_if_running)


@router.delete("/scoring/", dependencies=[ANNOTATOR], tags=["Scoring"], response_model=Task)
def stop_scoring(app: AppDep) -> Any:
    """Stop the running scoring; finished cases stay, and the same scoring continues with the remaining ones."""
    return _stop(app, SCORING)


@router.post("/batch/infer/{model}", dependencies=[ADMIN], tags=["Batch"], response_model=Task)
def start_batch(
    app: AppDep,
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """Synthesise the PETs of many CTs and keep them as labels; the user guide explains the parameters."""
    _refuse_run_sync(run_sync)
    settings = app.check_batch({"images": images.value, **(params or {}), "model": model})
    return started_or_refused(app.task_runner.start(BATCH, settings), TITLE[BATCH])


@router.get("/batch/infer", dependencies=[USER], tags=["Batch"], **stored_json(Status))
def get_batch_status(app: AppDep, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the newest batch with its progress; with `all` every one, with `check_if_running` a running one."""
    return _status(app, BATCH, every=all, running=check_if_running)


@router.delete("/batch/infer", dependencies=[ADMIN], tags=["Batch"], response_model=Task)
def stop_batch(app: AppDep) -> Any:
    """Stop the running batch; finished cases stay, and the same batch continues with the remaining ones."""
    return _stop(app, BATCH)


@router.get("/ct2pet/scores", dependencies=[USER], tags=["ct2pet"], response_model=dict[str, Summary | None])
def get_scores(app: AppDep) -> dict[str, Summary | None]:
    """Return the mean metrics of each served model over all scored pairs, and over patients it has never seen."""
    published = {name: app.models.published(name) for name in app.models.names}
    return {
        name: None if model is None else summary_of(app.studies_datastore, name, model)
        for name, model in published.items()
    }


def started_or_refused(started: Any, title: str) -> Any:
    """Return what was started.

    Raises:
        TaskRunningError: Nothing was, because another task of the kind is running.
    """
    if started is None:
        raise TaskRunningError(f"a {title} is running already", task=title)
    return started


def _scoring_settings(app: CT2PETApp, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated request of a scoring's process."""
    request = {**params, "method": method}
    app.scoring_method(method).read_request(request)
    return scoring_settings(method, request)


def _status(app: CT2PETApp, task: str, *, every: bool, running: bool) -> Any:
    known = [one for one in app.task_runner.tasks(task) if one["status"] == "RUNNING" or not running]
    if not known:
        what = "is running" if running else "was started since the server's start"
        raise NotFoundError(f"no {TITLE[task]} {what}", code="task_not_found", task=TITLE[task], start=START[task])
    with_progress = [
        {**one, "progress": read_report(app.models.folder, one["request"])}
        for one in (known if every and not running else known[-1:])
    ]
    return with_progress if every and not running else with_progress[0]


def _stop(app: CT2PETApp, task: str) -> Any:
    stopped = app.task_runner.stop(task)
    if stopped is None:
        raise NotFoundError(f"no {TITLE[task]} is running, so there is nothing to stop", code="task_not_running")
    return stopped


def _refuse_run_sync(run_sync: bool) -> None:
    if run_sync:
        raise RequestError("run_sync: tasks always run in a separate process; omit run_sync and poll the status")
