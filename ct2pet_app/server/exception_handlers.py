"""Exception handlers: problem details with a status, a code and what to do; never a traceback or a file's content.

Log lines name the path as it is declared, not as it was requested: a client may write anything there.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from monailabel.interfaces.exception import MONAILabelException
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ct2pet_app.advice import detail_of
from ct2pet_app.errors import BusyError, RequestError, http_status
from ct2pet_app.problem import http_problem, problem_response
from ct2pet_app.server.log_redaction import where
from ct2pet_app.server.openapi import allowed_methods
from lib.errors import CT2PETError, RemoteError

logger = logging.getLogger(__name__)

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
METHOD_NOT_ALLOWED, UNAVAILABLE, DISK_FULL = 405, 503, 507
RETRY_AFTER_S = 10
MAX_NAMED = 5  # wrong fields in one sentence


def install_exception_handlers(server: FastAPI) -> None:
    """Respond to errors with their status and message."""
    server.add_exception_handler(CT2PETError, _handle_ours)
    server.add_exception_handler(MONAILabelException, _handle_stock)
    server.add_exception_handler(RequestValidationError, _handle_validation)
    server.add_exception_handler(HTTPException, _handle_http)
    server.middleware_stack = None  # Starlette builds it, handlers included, again at the next request


class UnhandledErrorMiddleware:
    """ASGI middleware that responds to unhandled exceptions, instead of a traceback in the log and an empty 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        began = False

        async def watched(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            status, detail, code = _unexpected(error)
            logger.error("%s: %d %s", route_of(scope), status, where(error))
            if scope["type"] == "http" and not began:
                await problem_response(status, detail, code=code)(scope, receive, send)


def route_of(scope: Scope) -> str:
    """Return method and path of the requested route, as declared, for logs."""
    route = scope.get("route")
    path = getattr(route, "path", "an unknown route")
    return f"{scope.get('method', scope['type'])} {path}"


def is_no_space(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, is a full disk."""
    return any(
        (isinstance(cause, OSError) and cause.errno in NO_SPACE)
        or (isinstance(cause, sqlite3.OperationalError) and "disk is full" in str(cause))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, each once: chains of causes can be circular."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _unexpected(error: Exception) -> tuple[int, str, str]:
    """Return the status, the detail and the code of an error that no handler expects."""
    if is_no_space(error):
        detail = "the server's disk is full; nothing was stored. Ask its owner to free space, then try again"
        return DISK_FULL, detail, "disk_full"
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        detail = "the server has not enough memory for this; send fewer slices, or try again later"
        return UNAVAILABLE, detail, "out_of_memory"
    detail = f"unexpected error ({type(error).__name__}); see the server's log"
    return 500, detail, CT2PETError.code


async def _handle_ours(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, CT2PETError):
        return problem_response(500, "internal error", code=CT2PETError.code)
    status, code = http_status(error), error.code
    if is_no_space(error):
        status, code = DISK_FULL, "disk_full"
    if status >= 500 and not isinstance(error, BusyError):
        message = str(error) if isinstance(error, RemoteError) else where(error)
        logger.error("%s: %d %s", route_of(request.scope), status, message)
    else:  # the client gets the message; it may contain the name of an uploaded file, and that a patient's name
        logger.info("%s: %d %s", route_of(request.scope), status, type(error).__name__)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, BusyError) else None
    return problem_response(status, detail_of(error), code=code, params=error.params, headers=headers)


async def _handle_stock(request: Request, error: Exception) -> JSONResponse:
    logger.info("%s: 400 %s", route_of(request.scope), type(error).__name__)
    return problem_response(400, str(getattr(error, "msg", error)), code=RequestError.code)


async def _handle_validation(request: Request, error: Exception) -> JSONResponse:
    """Name the invalid fields. FastAPI's own response repeats the input, and fails if that is not JSON (NaN)."""
    problems: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    named = [f"{' '.join(str(part)[:40] for part in problem['loc'])}: {problem['msg']}" for problem in problems]
    more = f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    logger.info("%s: 422", route_of(request.scope))
    detail = f"invalid request: {'; '.join(named[:MAX_NAMED])[:1000]}{more}"
    fields = [".".join(str(part)[:40] for part in problem["loc"]) for problem in problems[:MAX_NAMED]]
    return problem_response(422, detail, params={"fields": fields})


async def _handle_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        return problem_response(500, "internal error")
    logger.info("%s: %d", route_of(request.scope), error.status_code)
    if is_no_space(error):
        status, detail, code = _unexpected(error)
        return problem_response(status, detail, code=code)
    if error.status_code == METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(allowed_methods(request.app, request.scope["path"]))}
    if error.detail == "Not Found":
        error.detail = "no such endpoint; GET / lists the endpoints of this server"
    elif error.detail == "Method Not Allowed":
        error.detail = f"this endpoint does not accept {request.method[:20]}; GET / lists endpoints and methods"
    elif error.detail in ("There was an error parsing the body", "Invalid multipart data."):
        error.detail = "the body cannot be read; send JSON, or a form with files, as documented at GET /"
    return http_problem(error)
