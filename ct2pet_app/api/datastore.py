"""Files and notes that clients give the datastore: the stock endpoints, checked before anything is kept.

The stock ones make a path of an uploaded file's name, log it, and respond to invalid JSON with a traceback.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Form, Request, UploadFile
from monailabel.utils.others.generic import get_mime_type

from ct2pet_app.api.deps import AnnotatorDep, AppDep
from ct2pet_app.api.form_data import json_object, received
from ct2pet_app.api.responses import file_response, stored_json
from ct2pet_app.api.schemas.studies import AddedImage, AddedLabel
from ct2pet_app.api_object import Empty
from ct2pet_app.auth.permissions import USER
from ct2pet_app.datastore.ct_source import DEFAULT_NAME, suffix_of
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

CHECKSUMS = ("SHA256", "SHA512", "MD5")

router = APIRouter(route_class=GuardedRoute, tags=["Datastore"])


@router.put("/datastore/image", response_model=AddedImage)
@router.put("/datastore/", deprecated=True, response_model=AddedImage)
async def add_image(
    request: Request,
    app: AppDep,
    user: AnnotatorDep,
    file: UploadFile,
    image: str | None = None,
    params: str = Form("{}"),
) -> dict[str, str]:
    """Keep a CT; its id is `image`, or the file name without its extension."""
    note = {**json_object(params, "params"), "user": user.username}
    name = Path(file.filename or DEFAULT_NAME).name
    suffix = suffix_of(name[-100:])

    def work(is_disconnected: IsDisconnected) -> str:
        """Check the CT and keep it."""
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            path = received(file, Path(folder) / f"image{suffix}")
            image_id = image or name[: -len(suffix)]
            return app.studies_datastore.add_image(image_id, str(path), note, is_disconnected=is_disconnected)

    return {"image": await app.pools.uploads.run(request, work)}


@router.put("/datastore/label", response_model=AddedLabel)
async def save_label(
    request: Request,
    app: AppDep,
    user: AnnotatorDep,
    label: UploadFile,
    image: str,
    params: str = Form("{}"),
    tag: str = "final",
) -> dict[str, Any]:
    """Keep a label of an image under a tag."""
    note = {**json_object(params, "params"), "user": user.username}
    suffix = suffix_of((label.filename or DEFAULT_NAME)[-100:])

    def work(_: IsDisconnected) -> str:
        """Keep the label."""
        with tempfile.TemporaryDirectory(prefix="label-") as folder:
            path = received(label, Path(folder) / f"label{suffix}")
            return app.studies_datastore.save_label(image, str(path), tag or "final", note)

    label_id = await app.pools.uploads.run(request, work)
    return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}


@router.put("/datastore/image/info", **stored_json(type(None)))
def update_image_info(app: AppDep, user: AnnotatorDep, image: str, info: str = Form("{}")) -> None:
    """Add to the notes about an image."""
    app.datastore().update_image_info(image, {**json_object(info, "info"), "user": user.username})


@router.put("/datastore/label/info", **stored_json(type(None)))
@router.put("/datastore/updatelabelinfo", deprecated=True, **stored_json(type(None)))
def update_label_info(
    app: AppDep, user: AnnotatorDep, label: str, tag: str, info: str = Form("{}"), params: str = Form("{}")
) -> None:
    """Add to the notes about a label; the deprecated endpoint calls them `params`."""
    note = {**json_object(params, "params"), **json_object(info, "info"), "user": user.username}
    app.datastore().update_label_info(label, tag, note)


@router.get("/datastore/image", dependencies=[USER], **file_response())
async def download_image(request: Request, app: AppDep, image: str) -> OpenFileResponse:
    """Download an image: an upload as it was received, a CT series as .nrrd in HU."""
    studies = app.studies_datastore
    return _file(
        await app.pools.exports.run(
            request, lambda is_disconnected: studies.open_image(image, is_disconnected=is_disconnected)
        )
    )


@router.get("/datastore/label", dependencies=[USER], **file_response())
async def download_label(request: Request, app: AppDep, label: str, tag: str) -> OpenFileResponse:
    """Download a label: an uploaded or synthetic one as it was saved, a PET series as .nrrd in SUVbw."""
    studies = app.studies_datastore
    return _file(
        await app.pools.exports.run(
            request, lambda is_disconnected: studies.open_label(label, tag, is_disconnected=is_disconnected)
        )
    )


@router.head("/datastore/image", dependencies=[USER], response_model=Empty)
async def check_image(request: Request, app: AppDep, image: str, check_sum: str | None = None) -> dict[str, Any]:
    """Check that an image exists, and has this checksum."""
    algorithm, _, digest = (check_sum or "").rpartition(":")
    algorithm = algorithm or CHECKSUMS[0]
    if algorithm not in CHECKSUMS:
        raise RequestError(f"check_sum: give it as ALGORITHM:HEX, with one of {', '.join(CHECKSUMS)}")

    new_hash = partial(hashlib.new, algorithm.lower(), usedforsecurity=False)

    def work(is_disconnected: IsDisconnected) -> None:
        """Compare the checksum."""
        with app.studies_datastore.open_image(image, is_disconnected=is_disconnected) as file:
            if digest and digest.lower() != hashlib.file_digest(file, new_hash).hexdigest():  # type: ignore[arg-type]
                raise NotFoundError(f"image {image[:80]!r} is here, and has another checksum")

    await app.pools.exports.run(request, work)
    return {}


@router.head("/datastore/label", dependencies=[USER], response_model=Empty)
async def check_label(request: Request, app: AppDep, image: str, tag: str) -> dict[str, Any]:
    """Check that a label exists."""
    studies = app.studies_datastore
    await app.pools.exports.run(
        request, lambda is_disconnected: studies.open_label(image, tag, is_disconnected=is_disconnected).close()
    )
    return {}


def _file(file: BinaryIO) -> OpenFileResponse:
    name = Path(file.name).name
    return OpenFileResponse(file, filename=name, media_type=get_mime_type(name))
