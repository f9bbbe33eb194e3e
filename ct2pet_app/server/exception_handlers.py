"""How a request that fails is answered: a status, a sentence that says what to do; never a traceback or a file's text.

What is logged of it names the address as it is declared, not as it was asked for: a client may write anything there.
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

from ct2pet_app.errors import BusyError, http_status
from ct2pet_app.server.json_values import sendable
from ct2pet_app.server.log_redaction import where
from ct2pet_app.server.openapi import allowed_methods
from lib.errors import CT2PETError, RemoteError

logger = logging.getLogger(__name__)

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
METHOD_NOT_ALLOWED, UNAVAILABLE, DISK_FULL = 405, 503, 507
RETRY_AFTER_S = 10
MAX_NAMED = 5  # wrong fields in one sentence


def install_exception_handlers(server: FastAPI) -> None:
    """Answer errors with their status and sentence."""
    server.add_exception_handler(CT2PETError, _answer_ours)
    server.add_exception_handler(MONAILabelException, _answer_stock)
    server.add_exception_handler(RequestValidationError, _answer_validation)
    server.add_exception_handler(HTTPException, _answer_http)
    server.middleware_stack = None  # Starlette builds it, handlers included, anew at the next request


class UnhandledErrorMiddleware:
    """ASGI middleware that answers what nobody expected, instead of a traceback in the log and an empty 500."""

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
            status, words = _unexpected(error)
            logger.error("%s: %d %s", address(scope), status, where(error))
            if scope["type"] == "http" and not began:
                await _answer(status, words)(scope, receive, send)


def address(scope: Scope) -> str:
    """Return which address was asked, as it is declared, for logs."""
    route = scope.get("route")
    path = getattr(route, "path", "an unknown address")
    return f"{scope.get('method', scope['type'])} {path}"


def is_no_space(error: BaseException) -> bool:
    """Return whether an error, or one that it came from, is a full disk."""
    return any(
        (isinstance(cause, OSError) and cause.errno in NO_SPACE)
        or (isinstance(cause, sqlite3.OperationalError) and "disk is full" in str(cause))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from, each once: an error may be its own cause, directly or by way of others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _unexpected(error: Exception) -> tuple[int, str]:
    if is_no_space(error):
        return DISK_FULL, "the server's disk is full; nothing was kept. Ask its owner for space, then send it again"
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return UNAVAILABLE, "the server has not enough memory for this; send fewer slices, or ask again later"
    return 500, f"this failed in a way nobody expected ({type(error).__name__}); the server's log says where"


def _answer(status: int, words: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sendable(words)}, status_code=status, headers=headers)


async def _answer_ours(request: Request, error: Exception) -> JSONResponse:
    status = http_status(error) if isinstance(error, CT2PETError) else 500
    if is_no_space(error):
        status = DISK_FULL
    if status >= 500 and not isinstance(error, BusyError):
        words = str(error) if isinstance(error, RemoteError) else where(error)
        logger.error("%s: %d %s", address(request.scope), status, words)
    else:  # the client gets the sentence; it may hold the name of an uploaded file, and that a patient's
        logger.info("%s: %d %s", address(request.scope), status, type(error).__name__)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, BusyError) else None
    return _answer(status, str(error), headers)


async def _answer_stock(request: Request, error: Exception) -> JSONResponse:
    logger.info("%s: 400 %s", address(request.scope), type(error).__name__)
    return _answer(400, str(getattr(error, "msg", error)))


async def _answer_validation(request: Request, error: Exception) -> JSONResponse:
    """Say which field is wrong. FastAPI's own answer repeats what was sent, and fails where that is no JSON (NaN)."""
    problems: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    named = [f"{' '.join(str(part)[:40] for part in problem['loc'])}: {problem['msg']}" for problem in problems]
    more = f"; and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    logger.info("%s: 422", address(request.scope))
    return _answer(422, f"the request is not what this address takes: {'; '.join(named[:MAX_NAMED])[:1000]}{more}")


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 500)
    words = str(getattr(error, "detail", error))
    if is_no_space(error):
        status, words = _unexpected(error)
    elif words == "Not Found":
        words = "there is nothing at this address; GET / lists the addresses of this server"
    elif words == "Method Not Allowed":
        words = f"this address does not take {request.method[:20]}; GET / lists the addresses and their methods"
    elif words in ("There was an error parsing the body", "Invalid multipart data."):
        words = "the body cannot be read; send JSON, or a form with files, as GET / says for this address"
    headers = dict(getattr(error, "headers", None) or {})
    if status == METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request.app, request.scope["path"]))
    logger.info("%s: %d", address(request.scope), status)
    return _answer(status, words, headers)
