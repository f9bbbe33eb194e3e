"""Stock addresses that this server does not serve, each with the way out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ct2pet_app.errors import NotFoundError
from ct2pet_app.routes.roles import USER
from ct2pet_app.server.guarded_route import GuardedRoute


def refused_routes() -> APIRouter:
    """Return the addresses that answer 404."""
    router = APIRouter(route_class=GuardedRoute, dependencies=[USER])
    hidden: dict[str, Any] = {"include_in_schema": False}
    router.add_api_route("/infer/wsi/{model}", _no_slides, methods=["POST"], **hidden)
    router.add_api_route("/infer/wsi_v2/{model}", _no_slides, methods=["POST"], **hidden)
    router.add_api_route("/proxy/dicom/{path:path}", _no_proxy, methods=["GET", "POST"], **hidden)
    router.add_api_route("/ohif/{path:path}", _no_viewer, methods=["GET"], **hidden)
    return router


def _no_slides(model: str) -> None:
    raise NotFoundError(
        f"there are no whole-slide images here; ask POST /infer/{model}?image=<CT series UID>", code="not_supported"
    )


def _no_proxy(path: str) -> None:
    """Refuse: the stock proxy passes any path on to the PACS, `..` and storing included, in the server's name."""
    raise NotFoundError(
        "this server is no way into the PACS; GET /datastore/?output=all lists its images", code="not_supported"
    )


def _no_viewer(path: str) -> None:
    """Refuse: the stock viewer asks the proxy above for everything; and its address makes a file's path of any path."""
    raise NotFoundError("this server has no viewer of its own; open the studies in 3D Slicer", code="not_supported")
