"""Scoring and batches: the stock addresses, with wrong words refused before any process starts, and telling more.

The stock status holds the last 20 lines of a log. Here it also says how many cases are done, which failed and why, and
in the end what came of it: `progress`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType

from ct2pet_app.errors import NotFoundError, RequestError, TaskRunningError
from ct2pet_app.routes.roles import ADMIN, ANNOTATOR, USER
from ct2pet_app.scores import summary_of
from ct2pet_app.scoring import scoring_settings
from ct2pet_app.server.guarded_route import GuardedRoute
from ct2pet_app.server.json_values import require_plain
from ct2pet_app.server.task_progress import read_report

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp

SCORING, BATCH = "scoring", "batch_infer"  # MONAI Label's words for the tasks
TITLE = {SCORING: "scoring", BATCH: "batch"}
ALREADY_RUNNING = 429  # as the stock server answers
START = {SCORING: "POST /scoring/metrics", BATCH: "POST /batch/infer/<model>"}


def task_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that start, tell of and stop scorings and batches, and what the scorings found."""
    router = APIRouter(route_class=GuardedRoute)
    tags: dict[str, list[str | Enum]] = {SCORING: ["Scoring"], BATCH: ["Batch"]}
    for path, task, role in (("/scoring/", SCORING, ANNOTATOR), ("/batch/infer", BATCH, ADMIN)):
        router.add_api_route(path, _status(app, task), methods=["GET"], dependencies=[USER], tags=tags[task])
        router.add_api_route(path, _stop(app, task), methods=["DELETE"], dependencies=[role], tags=tags[task])
    by_annotator: dict[str, Any] = {"methods": ["POST"], "dependencies": [ANNOTATOR], "tags": tags[SCORING]}
    router.add_api_route("/scoring/", _score_all(app), deprecated=True, **by_annotator)
    router.add_api_route("/scoring/{method}", _score(app), **by_annotator)
    batch: dict[str, Any] = {"methods": ["POST"], "dependencies": [ADMIN], "tags": tags[BATCH]}
    router.add_api_route("/batch/infer/{model}", _batch(app), **batch)
    router.add_api_route("/ct2pet/scores", _scores(app), methods=["GET"], dependencies=[USER], tags=["ct2pet"])
    return router


def _score(app: CT2PETApp) -> Any:
    def score(method: str, params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
        """Start a scoring: `metrics` of all pairs, or `uncertainty` of all CTs without a PET."""
        _refuse_run_sync(run_sync)
        settings = _scoring_settings(app, method, params or {})
        return started_or_refused(app.task_runner.start(SCORING, settings), TITLE[SCORING])

    return score


def _score_all(app: CT2PETApp) -> Any:
    def score_all(params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
        """Start every scoring, one after the other; `params` holds those of each under its name."""
        _refuse_run_sync(run_sync)
        require_plain(params or {})
        settings = {}
        for method in app.info()["scoring"]:
            asked = (params or {}).get(method) or {}
            if not isinstance(asked, dict):
                raise RequestError(f'{method}: expected its parameters, such as {{"{method}": {{"model": "unet"}}}}')
            settings[method] = _scoring_settings(app, method, asked)
        started = app.task_runner.start_all(SCORING, list(settings.values()))
        tasks = started_or_refused(started, TITLE[SCORING])
        return {method: {"result": task, "detail": None} for method, task in zip(settings, tasks, strict=True)}

    return score_all


def _batch(app: CT2PETApp) -> Any:
    def batch(
        model: str,
        images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
        params: dict[str, Any] | None = None,
        run_sync: bool = False,
    ) -> Any:
        """Draw the synthetic PETs of many CTs and keep them as labels; see the user guide for the parameters."""
        _refuse_run_sync(run_sync)
        settings = app.check_batch({"images": images.value, **(params or {}), "model": model})
        return started_or_refused(app.task_runner.start(BATCH, settings), TITLE[BATCH])

    return batch


def started_or_refused(started: Any, title: str) -> Any:
    """Return what was started.

    Raises:
        TaskRunningError: Nothing was, because another task of the kind runs.
    """
    if started is None:
        raise TaskRunningError(f"a {title} is running already", task=title)
    return started


def _scoring_settings(app: CT2PETApp, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a scoring's process, once it is known to be understood."""
    request = {**params, "method": method}
    app.scoring_method(method).read_request(request)
    return scoring_settings(method, request)


def _status(app: CT2PETApp, task: str) -> Any:
    def status(all: bool = False, check_if_running: bool = False) -> Any:
        """How the newest task does, or did; `all` tells of each, `check_if_running` of the one that runs."""
        known = [one for one in app.task_runner.tasks(task) if one["status"] == "RUNNING" or not check_if_running]
        if not known:
            what = "is running" if check_if_running else "was asked for since the server was started"
            raise NotFoundError(f"no {TITLE[task]} {what}", code="task_not_found", task=TITLE[task], start=START[task])
        return [_told(app, one) for one in known] if all and not check_if_running else _told(app, known[-1])

    return status


def _stop(app: CT2PETApp, task: str) -> Any:
    def stop() -> Any:
        """Stop the task that runs; what it has done stays, and the same task goes on with what is left."""
        stopped = app.task_runner.stop(task)
        if stopped is None:
            raise NotFoundError(f"no {TITLE[task]} is running, so there is nothing to stop", code="task_not_running")
        return stopped

    return stop


def _scores(app: CT2PETApp) -> Any:
    def scores() -> dict[str, Any]:
        """How each served model does over all pairs that were scored with it, and over patients it has never seen."""
        published = {name: app.models.published(name) for name in app.models.names}
        return {
            name: None if model is None else asdict(summary_of(app.studies_datastore, name, model))
            for name, model in published.items()
        }

    return scores


def _told(app: CT2PETApp, task: Mapping[str, Any]) -> dict[str, Any]:
    return {**task, "progress": read_report(app.models.folder, task["request"])}


def _refuse_run_sync(run_sync: bool) -> None:
    if run_sync:
        raise RequestError("run_sync: this runs in a process of its own; leave run_sync out and ask how it does")
