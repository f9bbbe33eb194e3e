"""The served checkpoints as files: the stock addresses, which name neither version nor why there is no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from ct2pet_app.loaded import PublishedModel
from ct2pet_app.routes.responses import file_response
from ct2pet_app.routes.roles import ADMIN
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.guarded_route import GuardedRoute
from ct2pet_app.told import card_as_json
from ct2pet_app.told_of_models import not_trained
from lib.errors import ModelNotTrainedError

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def download_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that give the served checkpoints, and tell of them."""
    router = APIRouter(route_class=GuardedRoute, dependencies=[ADMIN])
    router.add_api_route("/model/{model}", _download(app), methods=["GET"], tags=["Model"], **file_response())
    router.add_api_route("/model/info/{model}", _info(app), methods=["GET"], tags=["Model"])
    return router


def _download(app: CT2PETApp) -> Any:
    def download(model: str) -> OpenFileResponse:
        """Give the served checkpoint: weights and card in one file."""
        served = _served(app, model)
        headers = {"X-Checksum-SHA256": served.checksum}
        try:
            file = served.path.open("rb")
        except FileNotFoundError as error:
            raise ModelNotTrainedError(
                f"the file of model {model} was removed", code="model_file_missing", model=model
            ) from error
        return OpenFileResponse(
            file, media_type="application/octet-stream", filename=file_name(model, served), headers=headers
        )

    return download


def _info(app: CT2PETApp) -> Any:
    def info(model: str) -> dict[str, Any]:
        """Tell of the served checkpoint: MONAI Label's keys, then version, file name, size and card."""
        served = _served(app, model)
        told = {
            "checksum": f"SHA256:{served.checksum}",
            "modified_time": served.state.mtime_ns // 10**9,
            "version": served.version,
            "file": file_name(model, served),
            "size": served.state.size,
            "card": card_as_json(served.card),
        }
        stats = app.training_stats(model)
        return {**told, "train_stats": stats} if stats else told

    return info


def file_name(model: str, served: PublishedModel) -> str:
    """Return how a downloaded checkpoint is called: by model, version and the checksum's beginning."""
    version = "" if served.version is None else f"-version-{served.version}"
    return f"ct2pet-{model}{version}-{served.checksum[:8]}.safetensors"


def _served(app: CT2PETApp, model: str) -> PublishedModel:
    served = app.models.published(model)
    if served is None:
        raise not_trained(model, app.models.versions(model))
    return served
