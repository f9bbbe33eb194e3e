"""Images as a page shows them: a list in parts, thumbnails, and slices of whole numbers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.responses import file_response
from ct2pet_app.api.schemas.viewer import ImageGrid, ImageList
from ct2pet_app.api.viewer.deps import ReadersDep
from ct2pet_app.auth.permissions import USER
from ct2pet_app.errors import RequestError
from ct2pet_app.inference.request import SLAB
from ct2pet_app.server.concurrency import IsDisconnected
from ct2pet_app.server.middleware.guarded_route import GuardedRoute
from ct2pet_app.viewer.image_list import list_images
from ct2pet_app.viewer.voxels import Stored, describe_grid
from lib.imaging.geometry import Geometry

MAX_LISTED = 200  # at once
MAX_OFFSET = 10**7
LITTLE_ENDIAN = "<i2"
PRIVATE = {"Cache-Control": "private, max-age=600"}  # the browser of one user; a changed CT has the old picture briefly

router = APIRouter(route_class=GuardedRoute, dependencies=[USER], tags=["ct2pet"])


@router.get("/ct2pet/images", response_model=ImageList)
def list_cts(
    app: AppDep,
    search: Annotated[str, Query(max_length=200)] = "",
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
) -> dict[str, Any]:
    """List a part of the CTs, newest first; `search` has words of IDs, dates (YYYYMMDD) and descriptions."""
    return list_images(app, search=search, offset=offset, limit=limit)


@router.get("/ct2pet/images/grid", response_model=ImageGrid)
async def get_grid(request: Request, app: AppDep, readers: ReadersDep, image: str) -> dict[str, Any]:
    """Return the grid of a CT: shape, spacing, and the affine from (column, row, slice) to LPS mm."""

    def work(is_disconnected: IsDisconnected) -> Geometry:
        """Return the grid."""
        return readers.voxels.geometry(app.studies_datastore.cts.image(image), is_disconnected)

    return {"image": image, **describe_grid(await app.pools.exports.run(request, work))}


@router.get("/ct2pet/images/thumbnail", **file_response("image/png"))
async def get_thumbnail(request: Request, app: AppDep, readers: ReadersDep, image: str) -> Response:
    """Return the middle slice of a CT as a small PNG; of a CT in a PACS, only that slice is fetched."""
    datastore = app.studies_datastore

    def work(is_disconnected: IsDisconnected) -> bytes:
        """Return the PNG."""
        return readers.thumbnails.png(datastore.cts.image(image), datastore.studies, is_disconnected)

    return Response(await app.pools.previews.run(request, work), media_type="image/png", headers=PRIVATE)


@router.get("/ct2pet/images/voxels", **file_response("application/octet-stream"))
async def get_voxels(request: Request, app: AppDep, readers: ReadersDep, image: str, slices: str = "") -> Response:
    """Return slices `A:B` of a CT in HU, rounded to 16-bit integers, little-endian, by slice, row and column."""
    found = SLAB.fullmatch(slices or ":")
    if found is None:
        raise RequestError(f"slices {slices[:40]!r}: expected A:B, for example 0:16")
    slab = slice(*(int(end) if end else None for end in found.groups()))

    def work(is_disconnected: IsDisconnected) -> Stored:
        """Return the slices."""
        return readers.voxels.slab(app.studies_datastore.cts.image(image), slab, is_disconnected)

    voxels = await app.pools.exports.run(request, work)
    headers = {"X-CT2PET-Shape": " ".join(map(str, voxels.shape))}
    return Response(voxels.astype(LITTLE_ENDIAN).tobytes(), media_type="application/octet-stream", headers=headers)
