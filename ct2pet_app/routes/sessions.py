"""Sessions: the stock endpoints, checked before anything is kept, and for the account that created them only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, UploadFile
from monailabel.endpoints.user.auth import User
from monailabel.utils.sessions import SessionInfo

from ct2pet_app.errors import RequestError, switched_off
from ct2pet_app.routes.received import DEFAULT_NAME, received
from ct2pet_app.routes.responses import file_or_json
from ct2pet_app.routes.roles import USER, has_accounts, session_owner
from ct2pet_app.server.file_response import OpenFileResponse
from ct2pet_app.server.guarded_route import GuardedRoute
from ct2pet_app.sessions import CheckedSessions, described, no_session
from ct2pet_app.turns import Gone
from ct2pet_app.uploads import MOST_FILES, refuse_impostor, require_only_ct, suffix_of, unpack

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def session_routes(app: CT2PETApp) -> APIRouter:
    """Return the endpoints of sessions."""
    router = APIRouter(route_class=GuardedRoute)
    tags: dict[str, Any] = {"tags": ["Session"]}
    file = file_or_json("text/plain", "application/octet-stream", "application/gzip")
    router.add_api_route("/session/", _create_session(app), methods=["PUT"], **tags)
    router.add_api_route("/session/{session_id}", _session(app), methods=["GET"], **tags, **file)
    router.add_api_route("/session/{session_id}", _remove_session(app), methods=["DELETE"], **tags)
    return router


def _create_session(app: CT2PETApp) -> Any:
    async def create_session(
        request: Request,
        files: list[UploadFile],
        uncompress: bool = False,
        expiry: Annotated[int, Query(ge=0, le=10**9)] = 0,
        user: User = USER,
    ) -> dict[str, Any]:
        """Keep the files of one CT for several requests: a volume file, a zip, or the files of a DICOM series."""
        sessions = _sessions(app)
        if len(files) > MOST_FILES:
            raise RequestError(f"{len(files)} files, at most {MOST_FILES} are taken; send them as a zip")

        def work(_: Gone) -> tuple[str, SessionInfo]:
            """Check the files and keep them."""
            with tempfile.TemporaryDirectory(prefix="session-") as folder:
                path = _session_files(files, Path(folder, "series"), uncompress)
                owner = user.username if has_accounts() else ""
                session_id, session = sessions.add_session(str(path), expiry, owner=owner)
                return session_id, session

        session_id, session = await app.pools.uploads.run(request, work)
        return {"session_id": session_id, "session_info": described(session)}

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
    def session(session_id: str, update_ts: bool = False, image: bool = False, user: User = USER) -> Any:
        """Return a session, or its image."""
        found = _found(_sessions(app), session_id, user, update_ts=update_ts)
        if not image:
            return described(found)
        path = Path(found.image)
        if path.is_dir():
            raise RequestError("image: this session holds a DICOM series, not one file; ask for an inference of it")
        try:
            return OpenFileResponse(path.open("rb"), filename=path.name)
        except FileNotFoundError as error:
            raise no_session(session_id) from error

    return session


def _remove_session(app: CT2PETApp) -> Any:
    def remove_session(session_id: str, user: User = USER) -> dict[str, Any]:
        """Remove a session and its files."""
        sessions = _sessions(app)
        found = _found(sessions, session_id, user)
        sessions.remove_session(session_id)
        return described(found)

    return remove_session


def _found(sessions: CheckedSessions, session_id: str, user: User, *, update_ts: bool = True) -> SessionInfo:
    found = sessions.get_session(session_id, update_ts=update_ts, owner=session_owner(user))
    if found is None:
        raise no_session(session_id)
    return found


def _sessions(app: CT2PETApp) -> CheckedSessions:
    sessions: CheckedSessions | None = app.sessions()
    if sessions is None:
        raise switched_off("storing sessions", "MONAI_LABEL_SESSIONS")
    return sessions
