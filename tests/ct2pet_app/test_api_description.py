"""The description of the API names what its operations return: every JSON response, and every key of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from ct2pet_app.api.application import ROUTERS, STOCK_RESPONSES
from ct2pet_app.api.deps import set_app
from ct2pet_app.app import CT2PETApp
from ct2pet_app.server.monai_label import threaded_twins
from ct2pet_app.server.openapi import describe_api
from tests.ct2pet_app.constant_model import save_constant_model

# stored by clients and by the server under keys of their own, and MONAI Label's own objects
OPEN = {"LabelInfo", "ImageInfo"}
NO_RESPONSE = {("get", "/datastore/dataset")}  # always refused


@pytest.fixture
def server(make_app: Callable[..., CT2PETApp], tmp_path: Path) -> FastAPI:
    app = make_app()
    app.models.publish("unet", save_constant_model(tmp_path / "constant.safetensors", 2.0, stages=1))
    server = FastAPI()
    set_app(server, app)
    for router in (*ROUTERS, threaded_twins(STOCK_RESPONSES)):
        server.include_router(router)
    describe_api(server, server.router.routes, {})
    return server


def test_every_json_response_has_a_schema(server: FastAPI) -> None:
    for path, item in server.openapi()["paths"].items():
        for method, operation in item.items():
            content = operation["responses"]["200"].get("content", {})
            is_described = content.get("application/json", {}).get("schema") != {}
            assert is_described or (method, path) in NO_RESPONSE, f"{method} {path}: give the route a response_model"


def undescribed(value: Any, schema: dict[str, Any], schemas: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield every key of a response that its description lacks."""
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = schemas.get(name, schema)
    for other in schema.get("anyOf", ()):
        yield from undescribed(value, other, schemas, place) if fits(value, schemas, other) else ()
    if isinstance(value, list):
        for member in value:
            yield from undescribed(member, schema.get("items", {}), schemas, f"{place}[]")
    elif isinstance(value, dict) and name not in OPEN:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, member in value.items():
            if key in properties:
                yield from undescribed(member, properties[key], schemas, f"{place}.{key}")
            elif properties:
                yield f"{place}.{key}"
            elif isinstance(others, dict):
                yield from undescribed(member, others, schemas, f"{place}.{key}")


def fits(value: Any, schemas: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return whether a value is of the kind that a schema describes."""
    kinds = {"array": list, "object": dict, "null": type(None)}
    kind = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema).get("type")
    return isinstance(value, kinds.get(str(kind), object))


@pytest.mark.parametrize(
    "path",
    ["/ct2pet/series", "/ct2pet/pairs", "/ct2pet/models", "/ct2pet/models/unet", "/ct2pet/scores", "/ct2pet/training",
     "/model/info/unet"],
)  # fmt: skip
def test_every_key_of_a_response_is_described(server: FastAPI, path: str) -> None:
    async def response() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://server") as client:
            return await client.get(path)

    received = asyncio.run(response())
    assert received.status_code == 200, received.text
    description = server.openapi()
    declared = path.replace("unet", "{model}")
    schema = description["paths"][declared]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert not list(undescribed(received.json(), schema, description["components"]["schemas"]))
