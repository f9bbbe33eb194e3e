"""Files that clients give the datastore and the sessions: the stock addresses, checked before anything is kept.

The stock ones make a path of an uploaded file's name, log it, and answer a word that is no JSON with a traceback.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse
from monailabel.endpoints.user.auth import User
from monailabel.utils.others.generic import file_checksum, get_mime_type
from monailabel.utils.sessions import SessionInfo

from ct2pet_app.errors import NotFoundError, RequestError
from ct2pet_app.routes.roles import ANNOTATOR, USER
from ct2pet_app.server.guarded_route import GuardedRoute
from ct2pet_app.turns import Gone
from ct2pet_app.uploads import MOST_FILES, refuse_impostor, require_only_ct, suffix_of, unpack

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp
    from ct2pet_app.sessions import CheckedSessions

CHECKSUMS = ("SHA256", "SHA512", "MD5")
DEFAULT_NAME = "upload.nii.gz"


def datastore_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses under which files are uploaded, and notes and sessions made."""
    router = APIRouter(route_class=GuardedRoute)
    hidden: dict[str, Any] = {"include_in_schema": False}
    by_annotator: dict[str, Any] = {"methods": ["PUT"], **hidden}
    by_user: dict[str, Any] = {"dependencies": [USER], **hidden}
    for path in ("/datastore/", "/datastore/image"):
        router.add_api_route(path, _add_image(app), **by_annotator)
    router.add_api_route("/datastore/label", _save_label(app), **by_annotator)
    router.add_api_route("/datastore/image/info", _note_image(app), **by_annotator)
    router.add_api_route("/datastore/label/info", _note_label(app), **by_annotator)
    router.add_api_route("/datastore/updatelabelinfo", _note_label(app), **by_annotator)
    router.add_api_route("/datastore/image", _check_image(app), methods=["HEAD"], **by_user)
    router.add_api_route("/datastore/image", _image(app), methods=["GET"], **by_user)
    router.add_api_route("/datastore/label", _label(app), methods=["GET"], **by_user)
    router.add_api_route("/session/", _create_session(app), methods=["PUT"], **by_user)
    router.add_api_route("/session/{session_id}", _session(app), methods=["GET"], **by_user)
    router.add_api_route("/session/{session_id}", _remove_session(app), methods=["DELETE"], **by_user)
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

        def work(gone: Gone) -> str:
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

        def work(_: Gone) -> str:
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


def _check_image(app: CT2PETApp) -> Any:
    async def check_image(request: Request, image: str, check_sum: str | None = None) -> dict[str, Any]:
        """Say whether an image is here, and has this checksum."""
        algorithm, _, digest = (check_sum or "").rpartition(":")
        if (algorithm or CHECKSUMS[0]) not in CHECKSUMS:
            raise RequestError(f"check_sum: give it as ALGORITHM:HEX, with one of {', '.join(CHECKSUMS)}")

        def work(gone: Gone) -> bool:
            """Return whether the checksum is the file's."""
            path = app.studies_datastore.image_file(image, gone=gone)
            if not check_sum:
                return True
            found = str(file_checksum(path, algo=algorithm or CHECKSUMS[0]))  # ALGORITHM:HEX
            return found.rpartition(":")[2] == digest.lower()

        if not await app.pools.exports.run(request, work):
            raise NotFoundError("the image has another checksum")
        return {}

    return check_image


def _image(app: CT2PETApp) -> Any:
    async def download_image(request: Request, image: str) -> FileResponse:
        """Return an image as a volume file; a series is converted."""
        path = await app.pools.exports.run(request, lambda gone: app.studies_datastore.image_file(image, gone=gone))
        return _sent(path)

    return download_image


def _label(app: CT2PETApp) -> Any:
    async def download_label(request: Request, label: str, tag: str) -> FileResponse:
        """Return a label as a volume file; a PET series is converted to SUVbw."""
        path = await app.pools.exports.run(
            request, lambda gone: app.studies_datastore.label_file(label, tag, gone=gone)
        )
        return _sent(path)

    return download_label


def _sent(path: Path) -> FileResponse:
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


def _create_session(app: CT2PETApp) -> Any:
    async def create_session(
        request: Request,
        files: list[UploadFile],
        uncompress: bool = False,
        expiry: Annotated[int, Query(ge=0, le=10**9)] = 0,
    ) -> dict[str, Any]:
        """Keep the files of one CT for several requests: a volume file, a zip, or the files of a DICOM series."""
        sessions = _sessions(app)
        if len(files) > MOST_FILES:
            raise RequestError(f"{len(files)} files, at most {MOST_FILES} are taken; send them as a zip")

        def work(_: Gone) -> tuple[str, SessionInfo]:
            """Check the files and keep them."""
            with tempfile.TemporaryDirectory(prefix="session-") as folder:
                path = _session_files(files, Path(folder, "series"), uncompress)
                session_id, session = sessions.add_session(str(path), expiry)
                return session_id, session

        session_id, session = await app.pools.uploads.run(request, work)
        return {"session_id": session_id, "session_info": session.to_json()}

    return create_session


def _session_files(files: list[UploadFile], folder: Path, uncompress: bool) -> Path:
    """Return the file, or the folder of DICOM files, that was sent; their own names become no part of a path."""
    if len(files) == 1:
        name = (files[0].filename or DEFAULT_NAME)[-100:]
        file = received(files[0], folder.with_name(f"image{suffix_of(name)}"))
        refuse_impostor(file, file.name)
        if not uncompress:
            return file
    folder.mkdir()
    if len(files) == 1:
        unpack(file, folder, file.name)
    else:
        for number, sent in enumerate(files):
            received(sent, folder / f"{number:05d}")
    require_only_ct(folder, "the session's files")
    return folder


def _session(app: CT2PETApp) -> Any:
    def session(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
        """Return a session, or its image."""
        found = _found(_sessions(app), session_id, update_ts=update_ts)
        if not image:
            return found.to_json()
        if not Path(found.image).is_file():
            raise RequestError("image: this session holds a DICOM series, not one file; ask for an inference of it")
        return FileResponse(found.image, filename=Path(found.image).name)

    return session


def _remove_session(app: CT2PETApp) -> Any:
    def remove_session(session_id: str) -> dict[str, Any]:
        """Remove a session and its files."""
        sessions = _sessions(app)
        found = _found(sessions, session_id)
        sessions.remove_session(session_id)
        told: dict[str, Any] = found.to_json()
        return told

    return remove_session


def _found(sessions: CheckedSessions, session_id: str, *, update_ts: bool = True) -> SessionInfo:
    found = sessions.get_session(session_id, update_ts=update_ts)
    if found is None:
        raise NotFoundError(f"no session {session_id[:80]!r}: it has expired, or never was; create it again")
    return found


def _sessions(app: CT2PETApp) -> CheckedSessions:
    sessions: CheckedSessions | None = app.sessions()
    if sessions is None:
        raise NotFoundError("sessions are switched off on this server (MONAI_LABEL_SESSIONS)")
    return sessions


def received(file: UploadFile, path: Path) -> Path:
    """Return where an uploaded file was put."""
    with path.open("wb") as kept:
        shutil.copyfileobj(file.file, kept)
    return path


def json_object(text: str, what: str) -> dict[str, Any]:
    """Return the JSON object that a form's field holds.

    Raises:
        RequestError: Something else.
    """
    try:
        found = json.loads(text) if text else {}
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{what} is not JSON: give an object of words, numbers and lists") from error
    if not isinstance(found, dict):
        raise RequestError(f'{what} is a JSON object such as {{"slices": "10:20"}}, found {text[:40]!r}')
    return found
