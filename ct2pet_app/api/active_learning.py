"""Active learning: the stock address, whose answer says why a CT was picked, and whose notes cannot change which."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from monailabel.endpoints.user.auth import User

from ct2pet_app.auth.permissions import USER
from ct2pet_app.errors import RequestError
from ct2pet_app.server.json_values import checked_json_object
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

if TYPE_CHECKING:
    from ct2pet_app.app import CT2PETApp


MAX_PARAMS_BYTES = 8192
MAX_CLIENT_ID_CHARACTERS = 200


def sample_routes(app: CT2PETApp) -> APIRouter:
    """Return the address that picks the next CT."""
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/activelearning/{strategy}", _sample(app), methods=["POST"], tags=["ActiveLearning"])
    return router


def _sample(app: CT2PETApp) -> Any:
    def sample(strategy: str, params: dict[str, Any] | None = None, user: User = USER) -> dict[str, Any]:
        """Pick the next CT and note who was given it; empty where every CT has a PET."""
        asked = checked_json_object(params or {}, "params", max_bytes=MAX_PARAMS_BYTES)
        client_id = _client_id(asked, user)
        picked = app.next_sample({**asked, "strategy": strategy})
        if not picked:
            return {}
        datastore, image = app.studies_datastore, picked["id"]
        now = {"ts": int(time.time()), "client_id": client_id}
        datastore.record_image(image, {"strategy": {strategy: now}})
        return {**datastore.get_image_info(image), **picked}

    return sample


def _client_id(params: dict[str, Any], user: User) -> str:
    """Return who was given the CT: what the client calls itself, or the name of the account.

    Raises:
        RequestError: No text, or a long one.
    """
    client_id = params.get("client_id") or user.username
    if not isinstance(client_id, str) or len(client_id) > MAX_CLIENT_ID_CHARACTERS:
        raise RequestError(f"client_id: expected text of at most {MAX_CLIENT_ID_CHARACTERS} characters")
    return client_id
