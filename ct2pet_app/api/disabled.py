"""Stock endpoints that this server does not offer, each with an alternative."""

from __future__ import annotations

from fastapi import APIRouter

from ct2pet_app.auth.permissions import USER
from ct2pet_app.errors import NotFoundError
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

router = APIRouter(route_class=GuardedRoute, dependencies=[USER], include_in_schema=False)


@router.post("/infer/wsi/{model}")
@router.post("/infer/wsi_v2/{model}")
def refuse_slides(model: str) -> None:
    """Raise NotFoundError: whole-slide images are not supported."""
    raise NotFoundError(
        f"whole-slide images are not supported; use POST /infer/{model}?image=<CT series UID>", code="not_supported"
    )


@router.api_route("/proxy/dicom/{path:path}", methods=["GET", "POST"])
def refuse_proxy(path: str) -> None:
    """Refuse: the stock proxy passes any path on to the PACS, `..` and storing included, in the server's name."""
    raise NotFoundError(
        "this server is no way into the PACS; GET /datastore/?output=all lists its images", code="not_supported"
    )


@router.get("/ohif/{path:path}")
def refuse_viewer(path: str) -> None:
    """Refuse: the stock viewer uses the proxy above for everything, and opens any path that its URL names."""
    raise NotFoundError(
        "OHIF is not on this server; open the studies in 3D Slicer, or in the viewer at /ct2pet/viewer/",
        code="not_supported",
    )
