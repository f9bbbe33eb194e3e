"""Active learning: the stock endpoint, with the reason why a CT was picked, and with notes that cannot change it."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from ct2pet_app.api.deps import AppDep, UserDep
from ct2pet_app.api.responses import stored_json
from ct2pet_app.api.schemas.studies import NextSample
from ct2pet_app.errors import RequestError
from ct2pet_app.json_values import checked_json_object
from ct2pet_app.server.middleware.guarded_route import GuardedRoute

MAX_PARAMS_BYTES = 8192
MAX_CLIENT_ID_CHARACTERS = 200

router = APIRouter(route_class=GuardedRoute)


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"], summary="Pick a CT", **stored_json(NextSample))
def next_sample(app: AppDep, user: UserDep, strategy: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Pick the next CT and record who received it; empty where every CT has a PET."""
    checked = checked_json_object(params or {}, "params", max_bytes=MAX_PARAMS_BYTES)
    client_id = checked.get("client_id") or user.username
    if not isinstance(client_id, str) or len(client_id) > MAX_CLIENT_ID_CHARACTERS:
        raise RequestError(f"client_id: expected text of at most {MAX_CLIENT_ID_CHARACTERS} characters")
    picked = app.next_sample({**checked, "strategy": strategy})
    if not picked:
        return {}
    datastore, image = app.studies_datastore, picked["id"]
    now = {"ts": int(time.time()), "client_id": client_id}
    datastore.record_image(image, {"strategy": {strategy: now}})
    return {**datastore.get_image_info(image), **picked}
