"""Inference: the stock address, which opens any file of the server that a request names, and one for DICOM series."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.endpoints.user.auth import User
from monailabel.utils.others.generic import remove_file

from ct2pet_app.api.datastore import DEFAULT_NAME, json_object, received
from ct2pet_app.api.responses import file_or_json, file_response
from ct2pet_app.auth.permissions import USER, require_annotator, session_owner
from ct2pet_app.datastore.ct_source import source_of_file, suffix_of
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import DICOM, InferOptions
from ct2pet_app.inference.response import Output, name_model, refuse_two_files_as_one, send_answer
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def infer_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that draw synthetic PETs."""
    router = APIRouter(route_class=GuardedRoute, dependencies=[USER])
    answers = file_or_json("multipart/form-data", "application/octet-stream", "application/zip")
    router.add_api_route("/infer/{model}", _infer(app), methods=["POST"], tags=["Infer"], **answers)
    archive = file_response("application/zip")
    router.add_api_route("/ct2pet/dicom/{model}", _dicom(app), methods=["POST"], tags=["ct2pet"], **archive)
    return router


def _infer(app: CT2PETApp) -> Any:
    async def infer(
        request: Request,
        response: Response,
        background_tasks: BackgroundTasks,
        model: str,
        image: str = "",
        session_id: str = "",
        params: str = Form("{}"),
        file: UploadFile | None = File(None),
        label: UploadFile | None = File(None),
        output: Output = None,
        user: User = USER,
    ) -> Any:
        """Draw a synthetic PET from a CT: of the datastore (`image`), uploaded (`file`), or of a session."""
        asked = json_object(params, "params")
        _refuse_forbidden(asked, user)
        refuse_two_files_as_one(asked, output)

        def work(gone: IsDisconnected) -> dict[str, Any]:
            """Return the result of the synthesis."""
            if session_id:
                source = app.session_source(session_id, owner=session_owner(user))
                return app.synthesize(model, source, asked, gone=gone)
            if file is not None:
                with tempfile.TemporaryDirectory(prefix="ct2pet-upload-") as folder:
                    path, name = _received(file, Path(folder))
                    return app.synthesize(model, source_of_file(path, name), asked, gone=gone)
            if image:
                return app.synthesize(model, app.studies_datastore.ct_source(image), asked, gone=gone)
            raise RequestError("no CT: give ?image=<CT series UID>, a file, or a session_id")

        result = await app.pools.inference.run(request, work)
        answer = send_answer(result, output, background_tasks)
        return name_model(answer, response, result["params"])

    return infer


def _dicom(app: CT2PETApp) -> Any:
    async def dicom(
        request: Request,
        background_tasks: BackgroundTasks,
        model: str,
        image: str,
        slices: str = "",
        store: bool = False,
        version: Annotated[int | None, Query(ge=1, lt=10**6)] = None,
        user: User = USER,
    ) -> FileResponse:
        """Draw the synthetic PET of a CT and return it as a zip of a DICOM series; `store` puts it by its CT, too.

        `version` names one of the model's versions; left out, it is the one that is served.
        """
        if store:
            require_annotator(user, "store")
        asked = {"result_extension": DICOM, "slices": slices, "store": store, "version": version, "metrics": False}
        result = await app.pools.inference.run(
            request, lambda gone: app.synthesize(model, app.studies_datastore.ct_source(image), asked, gone=gone)
        )
        background_tasks.add_task(remove_file, result["file"])
        name = f"{result['params']['series']['series_instance_uid']}{DICOM}"
        answer = FileResponse(result["file"], media_type="application/zip", filename=name)
        name_model(answer, answer, result["params"])
        return answer

    return dicom


def _refuse_forbidden(params: dict[str, Any], user: User) -> None:
    """Return when an account may have what its parameters ask for, beyond a PET for itself."""
    options = InferOptions.from_params(params)
    for name, is_wanted in (("save_label", options.save_label), ("store", options.store)):
        if is_wanted:
            require_annotator(user, name)


def _received(file: UploadFile, folder: Path) -> tuple[Path, str]:
    """Return where an uploaded file was put, and what to call it; its own name becomes no part of the path."""
    name = Path(file.filename or DEFAULT_NAME).name[-100:]
    return received(file, folder / f"upload{suffix_of(name)}"), name
