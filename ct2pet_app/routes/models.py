"""Training and model files: the stock addresses, with wrong words refused before any work and no file unchecked; and
the versions of models, which MONAI Label has no address for.

The stock training starts a process to find out that a word is wrong, and does not tell what was decided about the
model; the stock upload of a model puts anything in the place of the weights.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, UploadFile
from monailabel.endpoints import model as stock_model

from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.loaded import PublishedModel
from ct2pet_app.routes.roles import ADMIN, USER
from ct2pet_app.routes.tasks import started_or_refused
from ct2pet_app.run_folders import stats_of_run
from ct2pet_app.server.guarded_route import GuardedRoute
from ct2pet_app.server.json_values import require_plain
from ct2pet_app.server.task_progress import read_report
from ct2pet_app.told_of_models import describe_model
from ct2pet_app.told_of_runs import describe_training
from ct2pet_app.train import RUN
from ct2pet_app.turns import Gone

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp

TRAIN = "train"  # MONAI Label's word for the task
TITLE = "training"
VERDICT_KEYS = ("published", "verdict", "version", "advice")


def model_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that make models, list them, and choose which version is served."""
    router = APIRouter(route_class=GuardedRoute)
    admin: dict[str, Any] = {"dependencies": [ADMIN]}
    user: dict[str, Any] = {"dependencies": [USER], "methods": ["GET"]}
    router.add_api_route("/train/{model}", _train(app), methods=["POST"], tags=["Train"], **admin)
    router.add_api_route("/train/", _train_all(app), methods=["POST"], tags=["Train"], deprecated=True, **admin)
    router.add_api_route("/train/", _training(app), tags=["Train"], **user)
    router.add_api_route("/train/", _stop_training(app), methods=["DELETE"], tags=["Train"], **admin)
    router.add_api_route("/model/{model}", _put_model(app), methods=["PUT"], tags=["Model"], **admin)
    router.add_api_route("/model/{model}", _delete_model, methods=["DELETE"], tags=["Model"], **admin)
    router.add_api_route("/ct2pet/training", _run(app), tags=["ct2pet"], **user)
    router.add_api_route("/ct2pet/models", _models(app), tags=["ct2pet"], **user)
    router.add_api_route("/ct2pet/models/{model}", _model(app), tags=["ct2pet"], **user)
    for verb, handler in (("rollback", _roll_back(app)), ("serve", _serve(app))):
        router.add_api_route(f"/ct2pet/models/{{model}}/{verb}", handler, methods=["POST"], tags=["ct2pet"], **admin)
    return router


def _train(app: CT2PETApp) -> Any:
    def train(model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False) -> Any:
        """Start a training process; wrong words are refused before it starts."""
        _refuse_run_sync(run_sync)
        settings = app.check_training(model, params or {})
        return started_or_refused(app.task_runner.start(TRAIN, settings, enqueue=enqueue), TITLE)

    return train


def _train_all(app: CT2PETApp) -> Any:
    def train_all(params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
        """Train every model, one after the other; `params` holds those of each under its name."""
        _refuse_run_sync(run_sync)
        require_plain(params or {})
        for name, asked in (params or {}).items():
            app.models.known(name)
            if not isinstance(asked, dict):
                raise RequestError(f'{name}: expected its settings, such as {{"max_epochs": 10}}')
        requests = [app.check_training(name, (params or {}).get(name, {})) for name in app.models.names]
        tasks = started_or_refused(app.task_runner.start_all(TRAIN, requests), TITLE)
        return {name: {"result": task, "detail": None} for name, task in zip(app.models.names, tasks, strict=True)}

    return train_all


def _training(app: CT2PETApp) -> Any:
    def training(all: bool = False, check_if_running: bool = False) -> Any:
        """How the newest training task does, or did, and what was decided about its model."""
        tasks = app.task_runner.tasks(TRAIN)
        if check_if_running:
            tasks = [task for task in tasks if task["status"] == "RUNNING"]
        if not tasks:
            what = "is running" if check_if_running else "was asked for since the server was started"
            raise NotFoundError(f"no training {what}", code="task_not_found", task=TITLE, start="POST /train/<model>")
        if all and not check_if_running:
            return tasks
        task = {"details": [], **tasks[-1]}
        return {**task, **_verdict(app, task)} if task["status"] == "DONE" else task

    return training


def _verdict(app: CT2PETApp, task: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was decided about the model of a training, as its own run says."""
    run = (read_report(app.models.folder, task["request"]) or {}).get(RUN)
    told = stats_of_run(app.models.runs(task["request"]["model"]), str(run))
    return {key: told[key] for key in VERDICT_KEYS if key in told}


def _stop_training(app: CT2PETApp) -> Any:
    def stop_training() -> Any:
        """Stop the training that runs, with all its processes; null where none runs, as MONAI Label answers."""
        return app.task_runner.stop(TRAIN)

    return stop_training


def _refuse_run_sync(run_sync: bool) -> None:
    if run_sync:
        raise RequestError("run_sync: a training runs in a process of its own; leave run_sync out")


def _run(app: CT2PETApp) -> Any:
    def run(model: str = "") -> dict[str, Any]:
        """The newest training run, of one model or of all: where it stands, each epoch so far, and the verdict."""
        return describe_training(app.models, model)

    return run


def _put_model(app: CT2PETApp) -> Any:
    async def put_model(request: Request, model: str, file: UploadFile) -> dict[str, Any]:
        """Keep a checkpoint that was trained elsewhere as a version, and serve it."""
        app.models.known(model)

        def work(_: Gone) -> PublishedModel:
            """Check the checkpoint, keep and serve it."""
            with tempfile.TemporaryDirectory(prefix="ct2pet-model-") as folder:
                path = Path(folder) / "model.safetensors"
                with path.open("wb") as kept:
                    shutil.copyfileobj(file.file, kept)
                return app.models.publish(model, path)

        published = await app.pools.uploads.run(request, work)
        told = {"checksum": published.checksum, "modified_time": published.state.mtime_ns // 10**9}
        return {**told, "version": published.version}

    return put_model


def _delete_model(model: str) -> Any:
    """Take a model out of service: MONAI Label's title says administrators, its check lets annotators."""
    return stock_model.delete_model(model)


def _models(app: CT2PETApp) -> Any:
    def models() -> list[dict[str, Any]]:
        """Every model with every version of it: checksum, figures beside trivial predictors, and what was decided."""
        return [describe_model(app.models, name) for name in app.models.names]

    return models


def _model(app: CT2PETApp) -> Any:
    def model(model: str) -> dict[str, Any]:
        """One model with every version of it, and what was served when."""
        return describe_model(app.models, model)

    return model


def _roll_back(app: CT2PETApp) -> Any:
    def roll_back(model: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """Serve the version that was served before, or the `version` named."""
        number = _number(asked) if asked else None
        app.models.roll_back(model, number)
        return describe_model(app.models, model)

    return roll_back


def _serve(app: CT2PETApp) -> Any:
    def serve(model: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Serve the `version` named, whatever was decided about it."""
        app.models.serve(model, _number(asked), action="served", why="asked for by the administrator")
        return describe_model(app.models, model)

    return serve


def _number(asked: dict[str, Any]) -> int:
    number = asked.get("version")
    if set(asked) != {"version"} or type(number) is not int or number < 1:
        raise RequestError(f'expected {{"version": 3}}, a whole number from 1, found {str(asked)[:80]}')
    return number
