"""Adapt MONAI Label's server: handlers in threads, error responses, middleware with limits.

The stock handlers are coroutines that never await, so each blocks all other requests. Here each has a twin that runs in
a thread and takes precedence.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from monailabel.config import settings as monailabel_settings
from monailabel.endpoints import activelearning, batch_infer, datastore, info, model, scoring, session, train

from ct2pet_app.advice import detail_of
from ct2pet_app.server.exception_handlers import UnhandledErrorMiddleware
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.server.middleware.request_guard import Gate
from ct2pet_app.server.middleware.response_guard import ResponseGuard
from lib.errors import CT2PETError

STOCK = (info, model, batch_infer, train, activelearning, scoring, datastore, session)


def running_server() -> FastAPI | None:
    """Return MONAI Label's web application if this process is the server; None in task processes and tests."""
    module = sys.modules.get("monailabel.app")
    application = getattr(module, "app", None)
    return application if isinstance(application, FastAPI) else None


def stop_server(error: CT2PETError) -> None:
    """Exit the server with an error message; do nothing in other processes.

    An exception would be printed with a long traceback of MONAI Label and uvicorn.
    """
    if running_server() is None:
        return
    sys.stderr.write(f"\nct2pet cannot start: {detail_of(error)}\n")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(2)


def threaded_twins(described: Mapping[str, Mapping[str, Any]]) -> APIRouter:
    """Return the stock handlers under the same paths, run in threads.

    Args:
        described: Further arguments of the routes, such as `responses`, by the name of the handler.
    """
    twins = APIRouter(route_class=GuardedRoute)
    for module in STOCK:
        for route in module.router.routes:
            if isinstance(route, APIRoute):
                twins.add_api_route(
                    route.path,
                    in_thread(route.endpoint),
                    methods=sorted(route.methods or ()),
                    summary=route.summary,
                    tags=route.tags,
                    deprecated=route.deprecated,
                    **described.get(route.endpoint.__name__, {}),
                )
    return twins


def in_thread(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return a plain function of the same signature: FastAPI runs such a handler in its thread pool."""

    def run(**arguments: Any) -> Any:
        return asyncio.run(endpoint(**arguments))

    run.__name__, run.__doc__ = endpoint.__name__, endpoint.__doc__
    run.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    return run


def put_first(server: FastAPI, router: APIRouter) -> None:
    """Add a router's routes before the stock ones, so that they take precedence."""
    before = len(server.router.routes)
    server.include_router(router, prefix=monailabel_settings.MONAI_LABEL_API_STR)
    added = server.router.routes[before:]
    del server.router.routes[before:]
    server.router.routes[:0] = added


def guard(
    server: FastAPI, *, origins: tuple[str, ...], limit_bytes: int, hosts: frozenset[str], folders: Mapping[str, str]
) -> None:
    """Add the app's middleware, and remove the stock CORS middleware, which allows all origins.

    Args:
        server: MONAI Label's.
        origins: Of web pages that may use the server.
        limit_bytes: Of an upload.
        hosts: Names of the server, besides IP addresses.
        folders: The server's folders by path, with the titles that replace them in responses.
    """
    server.middleware_stack = None
    # by name: after a reload, the class is another object
    ours = (Gate.__name__, CORSMiddleware.__name__, UnhandledErrorMiddleware.__name__, ResponseGuard.__name__)
    server.user_middleware[:] = [layer for layer in server.user_middleware if _name_of(layer.cls) not in ours]
    server.add_middleware(UnhandledErrorMiddleware)
    if origins:
        server.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
        )
    server.add_middleware(Gate, origins=origins, limit_bytes=limit_bytes, hosts=hosts)
    server.add_middleware(UnhandledErrorMiddleware)  # once more, for the layers above
    server.add_middleware(ResponseGuard, folders=folders)


def _name_of(layer: object) -> str:
    return str(getattr(layer, "__name__", ""))
