"""Training and model files: the stock endpoints, where parameters are checked before any work and files before they
are kept; and the versions of models, for which MONAI Label has no endpoint.

The stock training starts a process to find a wrong parameter, and does not report the decision about the model; the
stock upload of a model puts anything in the place of the weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, UploadFile
from monailabel.endpoints import model as stock_model

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.form_data import received
from ct2pet_app.api.responses import stored_json
from ct2pet_app.api.schemas.registry import ModelEntry, TrainingRun, UploadedModel
from ct2pet_app.api.schemas.tasks import StartedTask, Task, TrainingTask
from ct2pet_app.api.tasks import started_or_refused
from ct2pet_app.api_object import Empty
from ct2pet_app.app import CT2PETApp
from ct2pet_app.auth.permissions import ADMIN, USER
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.json_values import require_plain
from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.model_info import describe_model
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.server.tasks.progress import read_report
from ct2pet_app.training.run_folders import stats_of_run
from ct2pet_app.training.status import describe_training
from ct2pet_app.training.task import RUN

TRAIN = "train"  # MONAI Label's name of the task
TITLE = "training"
VERDICT_KEYS = ("published", "verdict", "version", "advice")

router = APIRouter(route_class=GuardedRoute)


@router.post("/train/{model}", dependencies=[ADMIN], tags=["Train"], response_model=Task)
def start_training(
    app: AppDep, model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False
) -> Any:
    """Start a training process; wrong parameters are refused before it starts."""
    _refuse_run_sync(run_sync)
    settings = app.check_training(model, params or {})
    return started_or_refused(app.task_runner.start(TRAIN, settings, enqueue=enqueue), TITLE)


@router.post("/train/", dependencies=[ADMIN], tags=["Train"], deprecated=True, response_model=dict[str, StartedTask])
def train_all_models(app: AppDep, params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
    """Train every model, one after the other; `params` holds the parameters of each under its name."""
    _refuse_run_sync(run_sync)
    require_plain(params or {})
    for name, own in (params or {}).items():
        app.models.known(name)
        if not isinstance(own, dict):
            raise RequestError(f'{name}: expected its settings, such as {{"max_epochs": 10}}')
    requests = [app.check_training(name, (params or {}).get(name, {})) for name in app.models.names]
    tasks = started_or_refused(app.task_runner.start_all(TRAIN, requests), TITLE)
    return {name: {"result": task, "detail": None} for name, task in zip(app.models.names, tasks, strict=True)}


@router.get("/train/", dependencies=[USER], tags=["Train"], **stored_json(TrainingTask | list[Task]))
def get_training_status(app: AppDep, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the newest training task, and the decision about its model; with `all` every training task."""
    tasks = app.task_runner.tasks(TRAIN)
    if check_if_running:
        tasks = [task for task in tasks if task["status"] == "RUNNING"]
    if not tasks:
        what = "is running" if check_if_running else "was started since the server's start"
        raise NotFoundError(f"no training {what}", code="task_not_found", task=TITLE, start="POST /train/<model>")
    if all and not check_if_running:
        return tasks
    task = {"details": [], **tasks[-1]}
    return {**task, **_verdict(app, task)} if task["status"] == "DONE" else task


@router.delete("/train/", dependencies=[ADMIN], tags=["Train"], response_model=Task | None)
def stop_training(app: AppDep) -> Any:
    """Stop the running training with all its processes; null where none is running, as MONAI Label responds."""
    return app.task_runner.stop(TRAIN)


@router.put("/model/{model}", dependencies=[ADMIN], tags=["Model"], response_model=UploadedModel)
async def upload_model(request: Request, app: AppDep, model: str, file: UploadFile) -> dict[str, Any]:
    """Keep a checkpoint that was trained elsewhere as a version, and serve it."""
    app.models.known(model)

    def work(_: IsDisconnected) -> PublishedModel:
        """Check the checkpoint, keep and serve it."""
        with tempfile.TemporaryDirectory(prefix="ct2pet-model-") as folder:
            return app.models.publish(model, received(file, Path(folder) / "model.safetensors"))

    published = await app.pools.uploads.run(request, work)
    modified_time = published.state.mtime_ns // 10**9
    return {"checksum": published.checksum, "modified_time": modified_time, "version": published.version}


@router.delete("/model/{model}", dependencies=[ADMIN], tags=["Model"], response_model=Empty)
def withdraw_model(model: str) -> Any:
    """Stop serving a model. MONAI Label documents that only administrators can do this, but allows annotators."""
    return stock_model.delete_model(model)


@router.get("/ct2pet/training", dependencies=[USER], tags=["ct2pet"], **stored_json(TrainingRun))
def get_newest_training_run(app: AppDep, model: str = "") -> dict[str, Any]:
    """Return the newest training run, of one model or of all: its state, each epoch so far, and the decision."""
    return describe_training(app.models, model)


@router.get("/ct2pet/models", dependencies=[USER], tags=["ct2pet"], response_model=list[ModelEntry])
def list_models(app: AppDep) -> list[dict[str, Any]]:
    """List every model with all its versions: checksum, metrics next to baselines, and the decision."""
    return [describe_model(app.models, name) for name in app.models.names]


@router.get("/ct2pet/models/{model}", dependencies=[USER], tags=["ct2pet"], response_model=ModelEntry)
def get_model(app: AppDep, model: str) -> dict[str, Any]:
    """Return one model with all its versions, and which of them was served when."""
    return describe_model(app.models, model)


@router.post("/ct2pet/models/{model}/rollback", dependencies=[ADMIN], tags=["ct2pet"], response_model=ModelEntry)
def roll_back_model(app: AppDep, model: str, requested: dict[str, Any] | None = None) -> dict[str, Any]:
    """Serve the version that was served before, or the given `version`."""
    app.models.roll_back(model, _version(requested) if requested else None)
    return describe_model(app.models, model)


@router.post("/ct2pet/models/{model}/serve", dependencies=[ADMIN], tags=["ct2pet"], response_model=ModelEntry)
def serve_version(app: AppDep, model: str, requested: dict[str, Any]) -> dict[str, Any]:
    """Serve the given `version`, whatever was decided about it."""
    app.models.serve(model, _version(requested), action="served", why="requested by the administrator")
    return describe_model(app.models, model)


def _verdict(app: CT2PETApp, task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decision about the model of a training, from its own run."""
    run = (read_report(app.models.folder, task["request"]) or {}).get(RUN)
    stats = stats_of_run(app.models.runs(task["request"]["model"]), str(run))
    return {key: stats[key] for key in VERDICT_KEYS if key in stats}


def _refuse_run_sync(run_sync: bool) -> None:
    if run_sync:
        raise RequestError("run_sync: a training always runs in a separate process; omit run_sync")


def _version(requested: dict[str, Any]) -> int:
    number = requested.get("version")
    if set(requested) != {"version"} or type(number) is not int or number < 1:
        raise RequestError(f'expected {{"version": 3}}, a whole number from 1, found {str(requested)[:80]}')
    return number
