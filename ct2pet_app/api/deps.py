"""Dependencies that endpoints share: the app, the caller, and the sessions.

How large a body may be, and which role a caller needs before it is read, `GuardedRoute` checks.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Request
from monailabel.endpoints.user.auth import User

from ct2pet_app.app import CT2PETApp
from ct2pet_app.auth.permissions import ANNOTATOR, USER
from ct2pet_app.datastore.sessions import CheckedSessions

STATE_KEY = "ct2pet_app"


def set_app(server: FastAPI, app: CT2PETApp) -> None:
    """Let the endpoints of a server work on this app."""
    setattr(server.state, STATE_KEY, app)


async def get_app(request: Request) -> CT2PETApp:
    """Return the app of the server; a coroutine, so that it takes no thread of the common pool."""
    app: CT2PETApp = getattr(request.app.state, STATE_KEY)
    return app


AppDep = Annotated[CT2PETApp, Depends(get_app)]
UserDep = Annotated[User, USER]
AnnotatorDep = Annotated[User, ANNOTATOR]


async def get_sessions(app: AppDep) -> CheckedSessions:
    """Return the sessions; NotFoundError where they are switched off."""
    return app.checked_sessions


SessionsDep = Annotated[CheckedSessions, Depends(get_sessions)]
