"""Print the reference of the REST API as Markdown: what the server's OpenAPI description says, and the roles."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from monailabel.endpoints.user.auth import RBAC
from starlette.routing import BaseRoute

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ct2pet_app.api.application import ROUTERS, STOCK_RESPONSES
from ct2pet_app.auth.login import auth_routes
from ct2pet_app.auth.login_throttle import LoginThrottle
from ct2pet_app.auth.tokens import Tokens
from ct2pet_app.auth.user_store import UserStore
from ct2pet_app.server.monai_label import threaded_twins
from ct2pet_app.server.openapi import ALWAYS, METHODS, WITH_BODY, describe_api

INTRODUCTION = """# REST API

This page is generated from the server's OpenAPI description. A running server describes itself, with the names of its
models, at `/docs` and `/openapi.json`. Research software, not for diagnosis.

*Role* is the role that the caller needs on a [server with accounts](../guide/accounts.md); on a server
without accounts everyone may do everything. Every error is a [problem with a stable code](../errors.md):

| status | meaning |
| --- | --- |
"""
JSON = "application/json"
SECTION = re.compile(r"^(?:Attributes|Args|Raises|Returns):$", re.MULTILINE)
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def main() -> None:
    """Print the page."""
    server = FastAPI()
    # what routes do with accounts is never called
    login = auth_routes(UserStore(Path("users.json")), Tokens(bytes(32), lifetime_s=1), LoginThrottle())
    routers = (*ROUTERS, login, threaded_twins(STOCK_RESPONSES))
    for router in routers:
        server.include_router(router)
    describe_api(server, server.router.routes, {})
    routes = [route for router in routers for route in router.routes]
    print("\n".join(page(server.openapi(), roles_of(routes))))


def roles_of(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], str]:
    """Return the role that each operation requires, by path and method; of equal operations, the first is served."""
    roles: dict[tuple[str, str], str] = {}
    for route in routes:
        if isinstance(route, APIRoute):
            required = next(_required(route.dependant), "")
            for method in route.methods or ():
                roles.setdefault((route.path, method.lower()), required)
    return roles


def _required(dependant: Dependant) -> Iterator[str]:
    """Yield the roles that a route's dependencies check."""
    for one in dependant.dependencies:
        if isinstance(one.call, RBAC):
            yield str(one.call.roles).removeprefix("monailabel-")
        yield from _required(one)


def page(description: Mapping[str, Any], roles: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield INTRODUCTION.rstrip()
    for status, meaning in sorted({**ALWAYS, **WITH_BODY}.items()):
        yield f"| {status} | {meaning} |"
    schemas = description["components"]["schemas"]
    operations = [
        (path, method, item[method])
        for path, item in description["paths"].items()
        for method in METHODS
        if method in item
    ]
    for tag, members in groupby(sorted(operations, key=lambda one: (_tag(one[2]), one[0])), lambda one: _tag(one[2])):
        yield f"\n## {tag}"
        for path, method, operation in members:
            yield from _operation(path, method, operation, roles.get((path, method), ""), schemas)
    yield "\n## Models\n\nObjects of requests and responses."
    for name in sorted(name for name in schemas if not name.startswith("Body_")):  # those are in their operations
        yield from _model(name, schemas[name])


def _tag(operation: Mapping[str, Any]) -> str:
    return str((operation.get("tags") or ["Server"])[0])


def _operation(
    path: str, method: str, operation: Mapping[str, Any], role: str, schemas: Mapping[str, Any]
) -> Iterator[str]:
    yield f"\n### `{method.upper()} {path}`\n"
    yield _text(_described(operation.get("description") or operation.get("summary", ""))[0], is_cell=False)
    yield f"\nRole: {role or 'none'}."
    rows = [
        (one["name"], one["in"], one.get("schema", {}), one.get("required", False), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        name = schema.get("$ref", "").rpartition("/")[2]
        if "form" in media_type and name in schemas:
            required = schemas[name].get("required", ())
            fields = schemas[name].get("properties", {}).items()
            rows += [(key, "form", one, key in required, one.get("description", "")) for key, one in fields]
        else:
            rows.append(("body", media_type, schema, True, ""))
    if rows:
        yield "\n| parameter | in | type | default | meaning |\n| --- | --- | --- | --- | --- |"
        for name, place, schema, is_required, meaning in rows:
            default = "required" if is_required else _default(schema)
            yield f"| `{name}` | {place} | {_type(schema)} | {default} | {_text(meaning)} |"
    yield "\n| response | content |\n| --- | --- |"
    for status, response in operation["responses"].items():
        if int(status) < 400:
            contents = response.get("content", {}).items()
            what = [
                _type(one.get("schema", {})) if media_type == JSON else f"`{media_type}`"
                for media_type, one in contents
            ]
            yield f"| {status} | {' or '.join(filter(None, what)) or _text(response.get('description', ''))} |"
    yield f"| {', '.join(status for status in operation['responses'] if int(status) >= 400)} | an error |"


def _model(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    description, meanings = _described(schema.get("description", ""))
    yield f"\n### {name}\n"
    yield _text(description, is_cell=False)
    if schema.get("enum"):
        yield "\nOne of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."
    if schema.get("properties"):
        yield "\n| field | type | meaning |\n| --- | --- | --- |"
        for field, one in schema["properties"].items():
            meaning = one.get("description") or meanings.get(field, "")
            yield f"| `{field}` | {_type(one)} | {_text(meaning)} |"


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring without its sections, and the meaning of each attribute in them."""
    description, *sections = SECTION.split(docstring)
    return description.strip(), dict(ATTRIBUTE.findall("\n".join(sections)))


def _type(schema: Mapping[str, Any]) -> str:
    """Return a type in words, with a link to each model."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    kinds = schema.get("anyOf") or schema.get("oneOf")
    if kinds:
        return " or ".join(dict.fromkeys(_type(one) for one in kinds))
    if schema.get("enum"):
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return "file" if schema.get("format") == "binary" else kind


def _default(schema: Mapping[str, Any]) -> str:
    return f"`{schema['default']}`" if schema.get("default") not in (None, "") else ""


def _text(text: str, *, is_cell: bool = True) -> str:
    """Return a text that Markdown shows as it is; in a table, on one line."""
    safe = text.replace("<", "&lt;")
    return " ".join(safe.replace("|", "\\|").split()) if is_cell else safe


if __name__ == "__main__":
    main()
