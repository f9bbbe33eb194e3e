"""The served checkpoints as files: the stock endpoints, with the version, and the reason where there is no file."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.responses import file_response
from ct2pet_app.api.schemas.registry import ServedModel
from ct2pet_app.app import CT2PETApp
from ct2pet_app.auth.permissions import ADMIN
from ct2pet_app.inference.result_metadata import card_as_json
from ct2pet_app.model_registry.model_cache import PublishedModel
from ct2pet_app.model_registry.versions import not_trained
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from lib.errors import ModelNotTrainedError

router = APIRouter(route_class=GuardedRoute, dependencies=[ADMIN], tags=["Model"])


@router.get("/model/{model}", **file_response())
def download_model(app: AppDep, model: str) -> OpenFileResponse:
    """Download the served checkpoint: weights and model card in one file."""
    served = _served(app, model)
    headers = {"X-Checksum-SHA256": served.checksum}
    try:
        file = served.path.open("rb")
    except FileNotFoundError as error:
        message = f"the file of model {model} was removed"
        raise ModelNotTrainedError(message, code="model_file_missing", model=model) from error
    name = file_name(model, served)
    return OpenFileResponse(file, media_type="application/octet-stream", filename=name, headers=headers)


@router.get("/model/info/{model}", response_model=ServedModel)
def get_served_model(app: AppDep, model: str) -> dict[str, Any]:
    """Describe the served checkpoint: MONAI Label's keys, then version, file name, size and model card."""
    served = _served(app, model)
    described = {
        "checksum": f"SHA256:{served.checksum}",
        "modified_time": served.state.mtime_ns // 10**9,
        "version": served.version,
        "file": file_name(model, served),
        "size": served.state.size,
        "card": card_as_json(served.card),
    }
    stats = app.training_stats(model)
    return {**described, "train_stats": stats} if stats else described


def file_name(model: str, served: PublishedModel) -> str:
    """Return the file name of a downloaded checkpoint: model, version and the first digits of the checksum."""
    version = "" if served.version is None else f"-version-{served.version}"
    return f"ct2pet-{model}{version}-{served.checksum[:8]}.safetensors"


def _served(app: CT2PETApp, model: str) -> PublishedModel:
    served = app.models.published(model)
    if served is None:
        raise not_trained(model, app.models.versions(model))
    return served
