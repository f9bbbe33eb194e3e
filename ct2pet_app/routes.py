"""Addresses of the server that are ours: inference, the start of a training, a new model file, and ``/ct2pet/``.

Where MONAI Label has the same address, ours stands before it, under the same contract, and accepts less. The stock
inference opens any file of the server that a request names; the stock training starts a process to find out that a word
is wrong; the stock upload of a model puts anything in the place of the weights; the stock reload throws away the app,
and every module of `lib`, under running requests.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints import train as stock_train
from monailabel.endpoints.user.auth import RBAC
from monailabel.utils.others.generic import remove_file

from ct2pet_app import server
from ct2pet_app.answer import Output, refuse_two_files_as_one, send_answer
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.infer_request import DICOM
from ct2pet_app.uploads import source_of_file, suffix_of

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp

USER = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_USER))
METHODS = ["GET", "POST"]
ADMIN = Depends(RBAC(monailabel_settings.MONAI_LABEL_AUTH_ROLE_ADMIN))


def install(app: CT2PETApp) -> None:
    """Put the app's addresses, threads, error answers and limits into the server; nothing where there is none."""
    application = server.running_server()
    if application is None:
        return
    server.put_first(application, server.threaded_twins())
    server.put_first(application, our_routes(app))
    server.guard(application, origins=app.settings.origins, limit_bytes=app.settings.max_upload_bytes)
    server.answer_errors(application)


def our_routes(app: CT2PETApp) -> APIRouter:
    """Return our addresses, bound to the app."""
    router = APIRouter()
    as_stock: dict[str, Any] = {"methods": ["POST"], "include_in_schema": False}  # the stock addresses are documented
    router.add_api_route("/infer/wsi/{model}", _no_slides, dependencies=[USER], **as_stock)
    router.add_api_route("/infer/wsi_v2/{model}", _no_slides, dependencies=[USER], **as_stock)
    router.add_api_route("/proxy/dicom/{path:path}", _no_proxy, dependencies=[USER], **{**as_stock, "methods": METHODS})
    router.add_api_route("/infer/{model}", _infer(app), dependencies=[USER], **as_stock)
    router.add_api_route("/train/{model}", _train(app), dependencies=[ADMIN], **as_stock)
    router.add_api_route("/model/{model}", _put_model(app), dependencies=[ADMIN], **{**as_stock, "methods": ["PUT"]})
    router.add_api_route("/reload", _reload(app), dependencies=[ADMIN], **as_stock)
    router.add_api_route("/ct2pet/dicom/{model}", _dicom(app), dependencies=[USER], methods=["POST"], tags=["ct2pet"])
    router.add_api_route("/ct2pet/series", _series(app), dependencies=[USER], methods=["GET"], tags=["ct2pet"])
    return router


def _no_slides(model: str) -> None:
    raise NotFoundError(f"there are no whole-slide images here; ask POST /infer/{model}?image=<CT series UID>")


def _no_proxy(path: str) -> None:
    """Refuse: the stock proxy passes any path on to the PACS, `..` and storing included, in the server's name."""
    raise NotFoundError("this server is no way into the PACS; GET /datastore/?output=all lists its images")


def _infer(app: CT2PETApp) -> Any:
    def infer(
        background_tasks: BackgroundTasks,
        model: str,
        image: str = "",
        session_id: str = "",
        params: str = Form("{}"),
        file: UploadFile | None = File(None),
        label: UploadFile | None = File(None),
        output: Output = None,
    ) -> Any:
        """Draw a synthetic PET from a CT: of the datastore (`image`), uploaded (`file`), or of a session."""
        asked = _params(params)
        refuse_two_files_as_one(asked, output)
        if session_id:
            result = app.synthesize(model, app.session_source(session_id), asked)
        elif file is not None:
            with tempfile.TemporaryDirectory(prefix="ct2pet-upload-") as folder:
                path, name = _received(file, Path(folder))
                result = app.synthesize(model, source_of_file(path, name), asked)
        elif image:
            result = app.synthesize(model, app.studies_datastore.ct_source(image), asked)
        else:
            raise RequestError("no CT: give ?image=<CT series UID>, a file, or a session_id")
        return send_answer(app.datastore(), result, output, background_tasks)

    return infer


def _dicom(app: CT2PETApp) -> Any:
    def dicom(
        background_tasks: BackgroundTasks, model: str, image: str, slices: str = "", store: bool = False
    ) -> FileResponse:
        """Draw the synthetic PET of a CT and return it as a zip of a DICOM series; `store` puts it by its CT, too."""
        asked = {"result_extension": DICOM, "slices": slices, "store": store, "metrics": False}
        result = app.synthesize(model, app.studies_datastore.ct_source(image), asked)
        background_tasks.add_task(remove_file, result["file"])
        name = f"{result['params']['series']['series_instance_uid']}{DICOM}"
        return FileResponse(result["file"], media_type="application/zip", filename=name)

    return dicom


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


def _reload(app: CT2PETApp) -> Any:
    def reload() -> dict[str, Any]:
        """Scan the studies now."""
        app.studies_datastore.refresh()
        return {}

    return reload


def _series(app: CT2PETApp) -> Any:
    def series() -> list[dict[str, Any]]:
        """Every series found in the studies folder, and why each unusable one is unusable."""
        return app.studies_datastore.describe_series()

    return series


def _params(text: str) -> dict[str, Any]:
    try:
        params = json.loads(text) if text else {}
    except ValueError as error:
        raise RequestError(f"params is not JSON ({error})") from error
    if not isinstance(params, dict):
        raise RequestError(f'params is a JSON object such as {{"slices": "10:20"}}, found {text[:40]!r}')
    return params


def _received(file: UploadFile, folder: Path) -> tuple[Path, str]:
    """Return where an uploaded file was put, and what to call it; its own name becomes no part of the path."""
    name = Path(file.filename or "upload.nii.gz").name[-100:]
    path = folder / f"upload{suffix_of(name)}"
    with path.open("wb") as kept:
        shutil.copyfileobj(file.file, kept)
    return path, name
