"""What the studies hold, and looking at them again.

The stock reload throws away the app, and every module of `lib`, under running requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from ct2pet_app.auth.permissions import ADMIN, USER
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def studies_routes(app: CT2PETApp) -> APIRouter:
    """Return the addresses that tell of the studies."""
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/reload", _reload(app), dependencies=[ADMIN], methods=["POST"], tags=["Others"])
    router.add_api_route("/ct2pet/series", _series(app), dependencies=[USER], methods=["GET"], tags=["ct2pet"])
    return router


def _reload(app: CT2PETApp) -> Any:
    async def reload(request: Request) -> dict[str, Any]:
        """Scan the studies now."""
        await app.pools.studies.run(request, lambda _: app.studies_datastore.refresh())
        return {}

    return reload


def _series(app: CT2PETApp) -> Any:
    def series() -> list[dict[str, Any]]:
        """Every series found in the studies folder, and why each unusable one is unusable."""
        return app.studies_datastore.describe_series()

    return series
