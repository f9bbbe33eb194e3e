"""Files that clients give the datastore and the sessions: the stock addresses, checked before anything is kept.

The stock ones make a path of an uploaded file's name, log it, and answer a word that is no JSON with a traceback.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fastapi import APIRouter, Form, Request, UploadFile
from monailabel.endpoints.user.auth import User
from monailabel.utils.others.generic import get_mime_type

from ct2pet_app.api.form_data import DEFAULT_NAME as DEFAULT_NAME
from ct2pet_app.api.form_data import json_object as json_object
from ct2pet_app.api.form_data import received as received
from ct2pet_app.api.responses import file_response
from ct2pet_app.auth.permissions import ANNOTATOR, USER
from ct2pet_app.datastore.ct_source import suffix_of
from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp

CHECKSUMS = ("SHA256", "SHA512", "MD5")


def datastore_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses under which files are uploaded, and notes and sessions made."""
    router = APIRouter(route_class=GuardedRoute)
    by_annotator: dict[str, Any] = {"methods": ["PUT"], "tags": ["Datastore"]}
    by_user: dict[str, Any] = {"dependencies": [USER], "tags": ["Datastore"]}
    router.add_api_route("/datastore/image", _add_image(app), **by_annotator)
    router.add_api_route("/datastore/", _add_image(app), deprecated=True, **by_annotator)
    router.add_api_route("/datastore/label", _save_label(app), **by_annotator)
    router.add_api_route("/datastore/image/info", _note_image(app), **by_annotator)
    router.add_api_route("/datastore/label/info", _note_label(app), **by_annotator)
    router.add_api_route("/datastore/updatelabelinfo", _note_label(app), deprecated=True, **by_annotator)
    router.add_api_route("/datastore/image", _image(app), methods=["GET"], **by_user, **file_response())
    router.add_api_route("/datastore/image", _check_image(app), methods=["HEAD"], **by_user)
    router.add_api_route("/datastore/label", _label(app), methods=["GET"], **by_user, **file_response())
    router.add_api_route("/datastore/label", _check_label(app), methods=["HEAD"], **by_user)
    return router


def _add_image(app: CT2PETApp) -> Any:
    async def add_image(
        request: Request,
        file: UploadFile,
        image: str | None = None,
        params: str = Form("{}"),
        user: User = ANNOTATOR,
    ) -> dict[str, str]:
        """Keep a CT; its id is `image`, or the file's name without its ending."""
        noted = {**json_object(params, "params"), "user": user.username}
        name = Path(file.filename or DEFAULT_NAME).name
        suffix = suffix_of(name[-100:])

        def work(gone: IsDisconnected) -> str:
            """Check the CT and keep it."""
            with tempfile.TemporaryDirectory(prefix="image-") as folder:
                path = received(file, Path(folder) / f"image{suffix}")
                image_id = image or name[: -len(suffix)]
                return app.studies_datastore.add_image(image_id, str(path), noted, gone=gone)

        return {"image": await app.pools.uploads.run(request, work)}

    return add_image


def _save_label(app: CT2PETApp) -> Any:
    async def save_label(
        request: Request,
        label: UploadFile,
        image: str,
        params: str = Form("{}"),
        tag: str = "final",
        user: User = ANNOTATOR,
    ) -> dict[str, Any]:
        """Keep a label of an image under a tag."""
        noted = {**json_object(params, "params"), "user": user.username}
        suffix = suffix_of((label.filename or DEFAULT_NAME)[-100:])

        def work(_: IsDisconnected) -> str:
            """Keep the label."""
            with tempfile.TemporaryDirectory(prefix="label-") as folder:
                path = received(label, Path(folder) / f"label{suffix}")
                return str(app.datastore().save_label(image, str(path), tag or "final", noted))

        label_id = await app.pools.uploads.run(request, work)
        return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}

    return save_label


def _note_image(app: CT2PETApp) -> Any:
    def note_image(image: str, info: str = Form("{}"), user: User = ANNOTATOR) -> None:
        """Add to what is noted about an image."""
        app.datastore().update_image_info(image, {**json_object(info, "info"), "user": user.username})

    return note_image


def _note_label(app: CT2PETApp) -> Any:
    def note_label(
        label: str, tag: str, info: str = Form("{}"), params: str = Form("{}"), user: User = ANNOTATOR
    ) -> None:
        """Add to what is noted about a label; an older address calls it `params`."""
        noted = {**json_object(params, "params"), **json_object(info, "info"), "user": user.username}
        app.datastore().update_label_info(label, tag, noted)

    return note_label


def _image(app: CT2PETApp) -> Any:
    async def image_file(request: Request, image: str) -> OpenFileResponse:
        """Give an image as a file: an upload as it came, a CT series as .nrrd in HU."""
        studies = app.studies_datastore
        return _sent(await app.pools.exports.run(request, lambda gone: studies.open_image(image, gone=gone)))

    return image_file


def _label(app: CT2PETApp) -> Any:
    async def label_file(request: Request, label: str, tag: str) -> OpenFileResponse:
        """Give a label as a file: an uploaded or synthetic one as it was saved, a PET series as .nrrd in SUVbw."""
        studies = app.studies_datastore
        return _sent(await app.pools.exports.run(request, lambda gone: studies.open_label(label, tag, gone=gone)))

    return label_file


def _sent(file: BinaryIO) -> OpenFileResponse:
    name = Path(file.name).name
    return OpenFileResponse(file, filename=name, media_type=get_mime_type(name))


def _check_image(app: CT2PETApp) -> Any:
    async def check_image(request: Request, image: str, check_sum: str | None = None) -> dict[str, Any]:
        """Say whether an image is here, and has this checksum."""
        algorithm, _, digest = (check_sum or "").rpartition(":")
        algorithm = algorithm or CHECKSUMS[0]
        if algorithm not in CHECKSUMS:
            raise RequestError(f"check_sum: give it as ALGORITHM:HEX, with one of {', '.join(CHECKSUMS)}")

        def work(gone: IsDisconnected) -> None:
            """Compare the checksum."""
            with app.studies_datastore.open_image(image, gone=gone) as file:
                if digest and digest.lower() != _digest(file, algorithm):
                    raise NotFoundError(f"image {image[:80]!r} is here, and has another checksum")

        await app.pools.exports.run(request, work)
        return {}

    return check_image


def _digest(file: BinaryIO, algorithm: str) -> str:
    digest = hashlib.new(algorithm.lower(), usedforsecurity=False)
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def _check_label(app: CT2PETApp) -> Any:
    async def check_label(request: Request, image: str, tag: str) -> dict[str, Any]:
        """Say whether a label is here."""
        studies = app.studies_datastore
        await app.pools.exports.run(request, lambda gone: studies.open_label(image, tag, gone=gone).close())
        return {}

    return check_label
