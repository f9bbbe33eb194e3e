"""Sessions: the stock endpoints; uploads are checked before they are kept, and belong to who created them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, UploadFile
from monailabel.utils.sessions import SessionInfo

from ct2pet_app.api.deps import AppDep, SessionsDep, UserDep
from ct2pet_app.api.form_data import received
from ct2pet_app.api.responses import file_or_json
from ct2pet_app.api.schemas.studies import CreatedSession, SessionDescription
from ct2pet_app.auth.permissions import has_accounts, session_owner
from ct2pet_app.datastore.ct_source import DEFAULT_NAME, MAX_FILES, refuse_impostor, require_only_ct, suffix_of, unpack
from ct2pet_app.datastore.sessions import described, no_session
from ct2pet_app.errors import RequestError
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

FILE = file_or_json("text/plain", "application/octet-stream", "application/gzip")

router = APIRouter(route_class=GuardedRoute, tags=["Session"])


@router.put("/session/", response_model=CreatedSession)
async def create_session(
    request: Request,
    app: AppDep,
    sessions: SessionsDep,
    user: UserDep,
    files: list[UploadFile],
    uncompress: bool = False,
    expiry: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> dict[str, Any]:
    """Keep the files of one CT for several requests: a volume file, a zip, or the files of a DICOM series."""
    if len(files) > MAX_FILES:
        raise RequestError(f"{len(files)} files, at most {MAX_FILES} are taken; send them as a zip")

    def work(_: IsDisconnected) -> tuple[str, SessionInfo]:
        """Check the files and keep them."""
        with tempfile.TemporaryDirectory(prefix="session-") as folder:
            path = _session_files(files, Path(folder, "series"), uncompress)
            return sessions.add_session(str(path), expiry, owner=user.username if has_accounts() else "")

    session_id, session = await app.pools.uploads.run(request, work)
    return {"session_id": session_id, "session_info": described(session)}


@router.get("/session/{session_id}", response_model=SessionDescription, **FILE)
def get_session(
    sessions: SessionsDep, user: UserDep, session_id: str, update_ts: bool = False, image: bool = False
) -> Any:
    """Return a session, or with `image` its file."""
    session = sessions.find(session_id, update_ts=update_ts, owner=session_owner(user))
    if not image:
        return described(session)
    path = Path(session.image)
    if path.is_dir():
        raise RequestError("image: this session contains a DICOM series, not one file; request an inference instead")
    try:
        return OpenFileResponse(path.open("rb"), filename=path.name)
    except FileNotFoundError as error:
        raise no_session(session_id) from error


@router.delete("/session/{session_id}", response_model=SessionDescription)
def remove_session(sessions: SessionsDep, user: UserDep, session_id: str) -> dict[str, Any]:
    """Remove a session and its files."""
    session = sessions.find(session_id, owner=session_owner(user))
    sessions.remove_session(session_id)
    return described(session)


def _session_files(files: list[UploadFile], folder: Path, uncompress: bool) -> Path:
    """Return the uploaded file, or the folder of DICOM files; their own names become no part of a path."""
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
