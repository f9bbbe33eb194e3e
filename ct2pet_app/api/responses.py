"""How the API describes responses that are no plain JSON, or JSON that is partly read from files."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

Responses = dict[int | str, dict[str, Any]]


def file_response(*media_types: str) -> dict[str, Any]:
    """Return the arguments of a route that always sends a file of one of these types."""
    return {**file_or_json(*media_types), "response_class": Response}


def file_or_json(*media_types: str) -> dict[str, Any]:
    """Return the arguments of a route that sends JSON, or a file of one of these types."""
    content: dict[str, Any] = {media_type: {} for media_type in media_types or ("application/octet-stream",)}
    responses: Responses = {200: {"description": "The file", "content": content}}
    return {"responses": responses}


def stored_json(model: Any) -> dict[str, Any]:
    """Return the arguments of a route whose JSON contains what clients and tasks have stored.

    The model describes the response but does not validate it: one damaged value must not make the response fail.
    """
    responses: Responses = {200: {"description": "Successful Response", "model": model}}
    return {"responses": responses, "response_model": None}
