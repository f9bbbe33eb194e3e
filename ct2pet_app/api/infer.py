"""Inference: the stock endpoint, which opens any file of the server that a request names, and one for DICOM series."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.endpoints.user.auth import User
from monailabel.utils.others.generic import remove_file

from ct2pet_app.api.deps import AppDep, UserDep
from ct2pet_app.api.form_data import json_object
from ct2pet_app.api.responses import file_or_json, file_response
from ct2pet_app.api.schemas.inference import InferResult
from ct2pet_app.auth.permissions import require_annotator, session_owner
from ct2pet_app.inference.request import DICOM, InferOptions
from ct2pet_app.inference.response import Output, refuse_two_files_as_one, result_response, set_model_headers
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

RESULT = file_or_json("multipart/form-data", "application/octet-stream", "application/zip")

router = APIRouter(route_class=GuardedRoute)


@router.post("/infer/{model}", tags=["Infer"], summary="Synthesise a PET", response_model=InferResult, **RESULT)
async def infer(
    request: Request,
    response: Response,
    background_tasks: BackgroundTasks,
    app: AppDep,
    user: UserDep,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile | None = File(None),
    label: UploadFile | None = File(None),
    output: Output = None,
) -> Any:
    """Synthesise a PET from a CT: of the datastore (`image`), uploaded (`file`), or of a session."""
    checked = json_object(params, "params")
    _refuse_forbidden(checked, user)
    refuse_two_files_as_one(checked, output)

    def work(is_disconnected: IsDisconnected) -> dict[str, Any]:
        """Return the result of the synthesis."""
        session = app.checked_sessions.find(session_id, owner=session_owner(user)) if session_id else None
        with app.studies_datastore.cts.requested(image, session, file) as source:
            return app.synthesize(model, source, checked, is_disconnected=is_disconnected)

    result = await app.pools.inference.run(request, work)
    content = result_response(result, output, background_tasks)
    return set_model_headers(content, response, result["params"])


@router.post(
    "/ct2pet/dicom/{model}",
    tags=["ct2pet"],
    summary="Synthesise a PET as a DICOM series",
    **file_response("application/zip"),
)
async def infer_dicom(
    request: Request,
    background_tasks: BackgroundTasks,
    app: AppDep,
    user: UserDep,
    model: str,
    image: str,
    slices: str = "",
    store: bool = False,
    version: Annotated[int | None, Query(ge=1, lt=10**6)] = None,
    allow_unlike: bool = False,
) -> FileResponse:
    """Return the synthetic PET of a CT as a zip of a DICOM series; `store` adds it to the study of the CT, too.

    `version` selects one of the model's versions; without it, the served one is used. `allow_unlike` synthesises the
    PET of a CT that is unlike the training CTs, too.
    """
    if store:
        require_annotator(user, "store")
    params = {
        "result_extension": DICOM, "slices": slices, "store": store, "version": version, "metrics": False,
        "allow_unlike": allow_unlike,
    }  # fmt: skip
    result = await app.pools.inference.run(
        request,
        lambda is_disconnected: app.synthesize(
            model, app.studies_datastore.cts.image(image), params, is_disconnected=is_disconnected
        ),
    )
    background_tasks.add_task(remove_file, result["file"])
    name = f"{result['params']['series']['series_instance_uid']}{DICOM}"
    file_response = FileResponse(result["file"], media_type="application/zip", filename=name)
    set_model_headers(file_response, file_response, result["params"])
    return file_response


def _refuse_forbidden(params: dict[str, Any], user: User) -> None:
    """Return if the account may have what its parameters request, beyond a PET for itself."""
    options = InferOptions.from_params(params)
    for name, is_wanted in (("save_label", options.save_label), ("store", options.store)):
        if is_wanted:
            require_annotator(user, name)
