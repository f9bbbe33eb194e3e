"""The series of the studies, and scanning the studies again.

The stock reload discards the app and every module of `lib` while requests are running.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from ct2pet_app.api.deps import AppDep
from ct2pet_app.api.schemas.studies import SeriesEntry
from ct2pet_app.api_object import Empty
from ct2pet_app.auth.permissions import ADMIN, USER
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

router = APIRouter(route_class=GuardedRoute)


@router.post("/reload", dependencies=[ADMIN], tags=["Others"], response_model=Empty)
async def rescan_studies(request: Request, app: AppDep) -> dict[str, Any]:
    """Scan the studies now."""
    await app.pools.studies.run(request, lambda _: app.studies_datastore.refresh())
    return {}


@router.get("/ct2pet/series", dependencies=[USER], tags=["ct2pet"], response_model=list[SeriesEntry])
def list_series(app: AppDep) -> list[dict[str, Any]]:
    """List every series of the studies, with the reason why an unusable one cannot be used."""
    return app.studies_datastore.describe_series()
