"""Active learning: the stock address, whose answer says why a CT was picked, and whose notes cannot change which."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from monailabel.endpoints.user.auth import User

from ct2pet_app.routes.roles import USER
from ct2pet_app.server.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


def sample_routes(app: CT2PETApp) -> APIRouter:
    """Return the address that picks the next CT."""
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/activelearning/{strategy}", _sample(app), methods=["POST"], include_in_schema=False)
    return router


def _sample(app: CT2PETApp) -> Any:
    def sample(strategy: str, params: dict[str, Any] | None = None, user: User = USER) -> dict[str, Any]:
        """Pick the next CT and note who was given it; empty where every CT has a PET."""
        asked = params or {}
        picked = app.next_sample({**asked, "strategy": strategy})
        if not picked:
            return {}
        datastore, image = app.datastore(), picked["id"]
        info = datastore.get_image_info(image)
        given = info.get("strategy")
        now = {"ts": int(time.time()), "client_id": asked.get("client_id", user.username)}
        datastore.update_image_info(image, {"strategy": {**(given if isinstance(given, dict) else {}), strategy: now}})
        return {**datastore.get_image_info(image), **picked}

    return sample
