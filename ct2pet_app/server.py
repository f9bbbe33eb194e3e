"""What this app changes about MONAI Label's server as a whole: threads, errors, the size of a request.

The stock handlers are coroutines that never await: while one computes, the server answers nobody. Here each has a twin
that runs in a thread and is found first.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints import activelearning, batch_infer, datastore, info, model, scoring, session, train
from monailabel.interfaces.exception import MONAILabelException

from ct2pet_app.errors import http_status
from ct2pet_app.limits import LimitedBody
from lib.errors import CT2PETError

logger = logging.getLogger(__name__)

STOCK = (info, model, batch_infer, train, activelearning, scoring, datastore, session)


def running_server() -> FastAPI | None:
    """Return MONAI Label's web application where this process is the server, not a training child or a test."""
    module = sys.modules.get("monailabel.app")
    application = getattr(module, "app", None)
    return application if isinstance(application, FastAPI) else None


def stop_server(error: Exception) -> None:
    """End the server with a sentence; return where this process is none.

    An exception would do as well, under a hundred lines of other people's code.
    """
    if running_server() is None:
        return
    sys.stderr.write(f"\nct2pet cannot start: {error}\n")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(2)


def threaded_twins() -> APIRouter:
    """Return the stock handlers under the same addresses, run in threads."""
    twins = APIRouter()
    for module in STOCK:
        for route in module.router.routes:
            if isinstance(route, APIRoute):
                twins.add_api_route(
                    route.path, in_thread(route.endpoint), methods=sorted(route.methods or ()), include_in_schema=False
                )
    return twins


def in_thread(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return a plain function of the same signature: FastAPI runs such a handler in its thread pool."""

    def run(**arguments: Any) -> Any:
        return asyncio.run(endpoint(**arguments))

    run.__name__ = endpoint.__name__
    run.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    return run


def put_first(server: FastAPI, router: APIRouter) -> None:
    """Add a router's addresses where they are found before the stock ones."""
    before = len(server.router.routes)
    server.include_router(router, prefix=monailabel_settings.MONAI_LABEL_API_STR)
    added = server.router.routes[before:]
    del server.router.routes[before:]
    server.router.routes[:0] = added


def answer_errors(server: FastAPI) -> None:
    """Answer errors that are raised on purpose with their status and sentence."""
    server.add_exception_handler(CT2PETError, _answer_ours)
    server.add_exception_handler(MONAILabelException, _answer_stock)
    server.middleware_stack = None  # Starlette builds it, handlers included, anew at the next request


def limit_requests(server: FastAPI, *, limit_bytes: int) -> None:
    """Refuse bodies above a size."""
    server.middleware_stack = None
    # by name: after POST /reload the former app's class is another one
    others = [layer for layer in server.user_middleware if getattr(layer.cls, "__name__", "") != LimitedBody.__name__]
    server.user_middleware[:] = others
    server.add_middleware(LimitedBody, limit_bytes=limit_bytes)


async def _answer_ours(request: Request, error: Exception) -> JSONResponse:
    status = http_status(error) if isinstance(error, CT2PETError) else 500
    logger.log(logging.ERROR if status == 500 else logging.INFO, "%s: %d %s", request.url.path, status, error)
    return JSONResponse({"detail": str(error)}, status_code=status)


async def _answer_stock(request: Request, error: Exception) -> JSONResponse:
    words = str(getattr(error, "msg", error))
    logger.info("%s: 400 %s", request.url.path, words)
    return JSONResponse({"detail": words}, status_code=400)
