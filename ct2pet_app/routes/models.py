"""Training and model files: the stock addresses, with wrong words refused before any work and no file unchecked.

The stock training starts a process to find out that a word is wrong; the stock upload of a model puts anything in the
place of the weights.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, UploadFile
from monailabel.endpoints import train as stock_train

from ct2pet_app.routes.roles import ADMIN

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def model_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that make models."""
    router = APIRouter(dependencies=[ADMIN])
    router.add_api_route("/train/{model}", _train(app), methods=["POST"], include_in_schema=False)
    router.add_api_route("/model/{model}", _put_model(app), methods=["PUT"], include_in_schema=False)
    return router


def _train(app: CT2PETApp) -> Any:
    def train(model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False) -> Any:
        """Start a training process; wrong words are refused before it starts."""
        app.check_training(model, params or {})
        return stock_train.run_model(model, params, run_sync, enqueue)

    return train


def _put_model(app: CT2PETApp) -> Any:
    def put_model(model: str, file: UploadFile) -> dict[str, Any]:
        """Publish a checkpoint that was trained elsewhere."""
        app.models.known(model)
        with tempfile.TemporaryDirectory(prefix="ct2pet-model-") as folder:
            path = Path(folder) / "model.safetensors"
            with path.open("wb") as kept:
                shutil.copyfileobj(file.file, kept)
            published = app.models.publish(model, path)
        return {"checksum": published.checksum, "modified_time": published.state.mtime_ns // 10**9}

    return put_model
