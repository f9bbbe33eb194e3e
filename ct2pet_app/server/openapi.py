"""The OpenAPI description of the endpoints that are served, with all error responses.

MONAI Label's own description contains replaced handlers, and no errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from ct2pet_app.problem import MEDIA_TYPE, Problem
from ct2pet_app.server.middleware.guarded_route import STATE_KEY

METHODS = ("get", "put", "post", "delete", "head", "options", "patch")
SCHEMA_REF = "#/components/schemas/{model}"
ALWAYS = {
    400: "The request is malformed, or a parameter is invalid",
    401: "No token, or one that is not valid (servers with accounts)",
    403: "The caller's role, the web page or the host name is not allowed",
    404: "There is no such model, image, label, session or task",
    414: "The query is too long",
    422: "A parameter has the wrong type",
    431: "Too many or too large headers",
    500: "An unexpected error; the server's log has details",
    502: "The PACS or Keycloak does not respond as it should",
    503: "Too many requests are waiting, or the accounts cannot be read",
    507: "The disk is full",
}
WITH_BODY = {
    408: "The body arrives too slowly",
    409: "The model is not trained yet",
    413: "The body is larger than this operation accepts",
    415: "The body is compressed, or of another type than this operation accepts",
    429: "Such a task is running already, or too many wrong passwords",
}
NOT_TRAINED = {409: WITH_BODY[409]}
QUERY_TOKEN = ("query", "token")
NO_CONTROL_CHARACTERS = "^[^\\x00-\\x1f\\x7f]*$"
OPEN = ("/auth/", "/auth/token")


def describe_api(server: FastAPI, routes: Sequence[BaseRoute], choices: Mapping[str, Sequence[str]]) -> None:
    """Set the server's OpenAPI description; of routes with the same path and method, the first is described.

    Args:
        server: MONAI Label's.
        routes: Those that serve requests, in the order in which they are found.
        choices: Allowed values of path parameters, by name.
    """

    def openapi() -> dict[str, Any]:
        if server.openapi_schema is None:
            server.openapi_schema = _schema(server, routes, choices)
        return server.openapi_schema

    server.openapi_schema = None
    server.openapi = openapi  # type: ignore[method-assign]


def _schema(server: FastAPI, routes: Sequence[BaseRoute], choices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    description: dict[str, Any] = get_openapi(
        title="ct2pet",
        version=server.version,
        description="Synthetic PET from CT. Research software, not for diagnosis.",
        routes=list(reversed(routes)),
    )
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for replaced in ("HTTPValidationError", "ValidationError"):
        schemas.pop(replaced, None)
    problem = Problem.model_json_schema(ref_template=SCHEMA_REF, mode="serialization")
    schemas.update(problem.pop("$defs"), Problem=problem)
    has_accounts = getattr(server.state, STATE_KEY, None) is not None
    if has_accounts:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in description["paths"].items():
        for method in [method for method in METHODS if method in item]:
            operation = item[method]
            operation.pop("security", None)
            if has_accounts and path not in OPEN:
                operation["security"] = [{"token": []}]
            _describe_parameters(operation, choices)
            _describe_body(operation, schemas)
            _add_errors(operation, takes_model="{model}" in path)
    description["paths"] = dict(sorted(description["paths"].items()))
    return description


def _describe_parameters(operation: dict[str, Any], choices: Mapping[str, Sequence[str]]) -> None:
    """Add the guard's pattern and the app's choices; remove `token`, which clients do not send in a query."""
    found = operation.get("parameters", [])
    operation["parameters"] = [one for one in found if (one["in"], one["name"]) != QUERY_TOKEN]
    for parameter in operation["parameters"]:
        schema = parameter["schema"]
        for kind in schema.get("anyOf", [schema]):
            if kind.get("type") == "string" and "enum" not in kind:
                kind["pattern"] = NO_CONTROL_CHARACTERS
        if parameter["in"] == "path" and parameter["name"] in choices:
            schema["enum"] = list(choices[parameter["name"]])


def _describe_body(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Describe form fields without null and empty lists, which a form cannot contain."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        for field, schema in schemas.get(name, {}).get("properties", {}).items() if "form" in media_type else ():
            kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
            if len(kinds) == 1:
                rest = {key: value for key, value in schema.items() if key != "anyOf"}
                schemas[name]["properties"][field] = {**rest, **kinds[0]}
            if schema.get("type") == "array":
                schema["minItems"] = 1


def _add_errors(operation: dict[str, Any], *, takes_model: bool) -> None:
    errors = {**ALWAYS, **(WITH_BODY if "requestBody" in operation else {}), **(NOT_TRAINED if takes_model else {})}
    if operation.get("tags") == ["Auth"]:
        errors |= {413: WITH_BODY[413], 415: WITH_BODY[415], 429: WITH_BODY[429]}
    content = {MEDIA_TYPE: {"schema": {"$ref": SCHEMA_REF.format(model=Problem.__name__)}}}
    for status, meaning in errors.items():
        operation["responses"][str(status)] = {"description": meaning, "content": content}
    operation["responses"] = dict(sorted(operation["responses"].items()))


def allowed_methods(server: FastAPI, path: str) -> list[str]:
    """Return the methods that the server accepts at a path."""
    contexts = iter_route_contexts(server.router.routes)
    found = [context for context in contexts if (regex := getattr(context, "path_regex", None)) and regex.match(path)]
    return sorted({method for context in found for method in context.methods or ()})
